//! The http-wasm calls that the plugin may make. What is missing here cannot be called: the module would not link.

use super::{World, memory};
use wasmtime::{Caller, Linker};

type Guest<'a> = Caller<'a, World>;

const REQUEST: i32 = 0;
const RESPONSE: i32 = 1;

fn note(guest: &mut Guest<'_>, call: String) {
    guest.data_mut().calls.push(call);
}

/// NUL-terminated values and `count << 32 | len`.
fn fill_list(guest: &mut Guest<'_>, at: i32, limit: i32, values: &[Vec<u8>]) -> i64 {
    let joined: Vec<u8> = values.iter().flat_map(|value| value.iter().copied().chain([0])).collect();
    let len = memory::fill(guest, at, limit, &joined);
    i64::try_from(values.len()).unwrap() << 32 | i64::from(len)
}

pub(super) fn add(linker: &mut Linker<World>) {
    let module = "http_handler";
    linker
        .func_wrap(module, "get_config", |mut guest: Guest<'_>, at: i32, limit: i32| {
            note(&mut guest, "get_config".to_owned());
            let config = guest.data().config.clone();
            memory::fill(&mut guest, at, limit, config.as_bytes())
        })
        .unwrap();
    linker
        .func_wrap(module, "log", |mut guest: Guest<'_>, level: i32, at: i32, len: i32| {
            let level = ["debug", "info", "warn", "error"][usize::try_from(level + 1).unwrap()];
            let line = memory::text(&mut guest, at, len);
            assert!(!line.contains(char::is_control), "{line:?}");
            note(&mut guest, format!("log {level} {line}"));
        })
        .unwrap();
    linker
        .func_wrap(module, "get_method", |mut guest: Guest<'_>, at: i32, limit: i32| {
            note(&mut guest, "get_method".to_owned());
            let method = guest.data().request.method.clone();
            memory::fill(&mut guest, at, limit, method.as_bytes())
        })
        .unwrap();
    linker
        .func_wrap(module, "get_uri", |mut guest: Guest<'_>, at: i32, limit: i32| {
            note(&mut guest, "get_uri".to_owned());
            let uri = guest.data().request.uri.clone();
            memory::fill(&mut guest, at, limit, uri.as_bytes())
        })
        .unwrap();
    linker
        .func_wrap(module, "set_uri", |mut guest: Guest<'_>, at: i32, len: i32| {
            let uri = memory::text(&mut guest, at, len);
            note(&mut guest, format!("set_uri {uri}"));
            guest.data_mut().request.uri = uri;
        })
        .unwrap();
    linker
        .func_wrap(module, "get_source_addr", |mut guest: Guest<'_>, at: i32, limit: i32| {
            note(&mut guest, "get_source_addr".to_owned());
            let address = guest.data().request.source_address.clone();
            memory::fill(&mut guest, at, limit, address.as_deref().unwrap_or("192.0.2.1:4711").as_bytes())
        })
        .unwrap();
    add_headers(linker, module);
    linker
        .func_wrap(module, "set_status_code", |mut guest: Guest<'_>, code: i32| {
            note(&mut guest, format!("set_status_code {code}"));
            assert_eq!(guest.data().reply.status, 0, "the status is set twice");
            guest.data_mut().reply.status = code;
        })
        .unwrap();
    linker
        .func_wrap(module, "write_body", |mut guest: Guest<'_>, kind: i32, at: i32, len: i32| {
            let body = memory::text(&mut guest, at, len);
            assert_eq!(kind, RESPONSE);
            assert_ne!(guest.data().reply.status, 0, "without a status the host would send 200");
            note(&mut guest, "write_body".to_owned());
            guest.data_mut().reply.body.push_str(&body);
        })
        .unwrap();
}

fn add_headers(linker: &mut Linker<World>, module: &str) {
    linker
        .func_wrap(module, "get_header_names", |mut guest: Guest<'_>, kind: i32, at: i32, limit: i32| {
            assert_eq!(kind, REQUEST);
            note(&mut guest, "get_header_names".to_owned());
            let names: Vec<_> = guest.data().request.headers.keys().map(|name| name.clone().into_bytes()).collect();
            fill_list(&mut guest, at, limit, &names)
        })
        .unwrap();
    linker
        .func_wrap(
            module,
            "get_header_values",
            |mut guest: Guest<'_>, kind: i32, name: i32, name_len: i32, at: i32, limit: i32| {
                assert_eq!(kind, REQUEST);
                let name = memory::text(&mut guest, name, name_len);
                note(&mut guest, format!("get_header_values {name}"));
                let values = guest.data().request.headers.get(&name.to_ascii_lowercase()).cloned().unwrap_or_default();
                fill_list(&mut guest, at, limit, &values)
            },
        )
        .unwrap();
    linker
        .func_wrap(
            module,
            "set_header_value",
            |mut guest: Guest<'_>, kind: i32, name: i32, name_len: i32, value: i32, value_len: i32| {
                let name = memory::text(&mut guest, name, name_len);
                let value = memory::text(&mut guest, value, value_len);
                assert!(!value.contains(char::is_control), "{value:?}");
                if kind == REQUEST {
                    note(&mut guest, format!("set {name}: {value}"));
                    let headers = &mut guest.data_mut().request.headers;
                    headers.insert(name.to_ascii_lowercase(), vec![value.into_bytes()]);
                } else {
                    assert_eq!(kind, RESPONSE);
                    assert_eq!(guest.data().reply.status, 0, "the head has been sent");
                    note(&mut guest, format!("reply {name}: {value}"));
                    guest.data_mut().reply.headers.push((name, value));
                }
            },
        )
        .unwrap();
    linker
        .func_wrap(module, "remove_header", |mut guest: Guest<'_>, kind: i32, name: i32, name_len: i32| {
            assert_eq!(kind, REQUEST);
            let name = memory::text(&mut guest, name, name_len);
            note(&mut guest, format!("remove {name}"));
            if !guest.data().removal_fails {
                guest.data_mut().request.headers.remove(&name.to_ascii_lowercase());
            }
        })
        .unwrap();
}
