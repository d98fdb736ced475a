//! Requests to each service of the topology, with their answers.

use crate::access::{Credential, REFUSED, Stop};

/// In the order in which they are shown: the second order is one too many.
pub const STOPS: [Stop; 8] = [
    Stop {
        title: "web reads from the shop in cluster east",
        why: "its annotations are those of Traefik 1",
        credential: Credential::Certificate("web"),
        host: "shop.localhost",
        status: 200,
        service: Some("shop"),
        ..REFUSED
    },
    ORDER,
    ORDER_AGAIN,
    Stop {
        title: "a user of web reads from the stock in cluster west",
        why: "its intention asks for a token of the provider login as well",
        credential: Credential::User("web"),
        host: "stock.localhost",
        status: 200,
        service: Some("stock"),
        ..REFUSED
    },
    Stop {
        title: "web without a user",
        why: "the certificate is good, the token is missing",
        credential: Credential::Certificate("web"),
        host: "stock.localhost",
        status: 401,
        ..REFUSED
    },
    Stop {
        title: "web reads from billing on a machine",
        why: "an agent registered it, and the gate guards it as well",
        credential: Credential::Certificate("web"),
        host: "billing.localhost",
        status: 200,
        service: Some("billing"),
        ..REFUSED
    },
    Stop {
        title: "another caller",
        why: "no intention for billing names the source batch",
        credential: Credential::Certificate("batch"),
        host: "billing.localhost",
        ..REFUSED
    },
    Stop {
        title: "no credentials",
        why: "nobody is known, so nobody can be allowed",
        host: "shop.localhost",
        status: 401,
        ..REFUSED
    },
];

/// The one order of an hour.
pub const ORDER: Stop = Stop {
    title: "web orders",
    why: "one order an hour, by the caller's identity",
    credential: Credential::Certificate("web"),
    method: "POST",
    host: "shop.localhost",
    path: "/v1/orders",
    status: 200,
    service: Some("shop"),
    ..REFUSED
};

/// The next one.
pub const ORDER_AGAIN: Stop = Stop {
    title: "web orders again",
    why: "the limit shop/orders: an hour is not over",
    status: 429,
    service: None,
    ..ORDER
};
