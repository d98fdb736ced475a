//! What a credential costs in the built plugin: seen for the first time, when its signatures are verified, and again, when
//! that is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use portcullis_authoring::compile;
use portcullis_policy::{
    Action, Mode, Policy, PolicySettings,
    certificate::{CaRoot, TrustBundle},
    jwt::{JwtProvider, KeySource},
    model::{Intention, ProviderRequirement, Requirement, ServiceName, Source, SourceRule},
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _, SanType, SignatureAlgorithm,
    SigningKey as _,
};
use rsa::{
    Pkcs1v15Sign, RsaPrivateKey,
    rand_core::{CryptoRng, RngCore},
    traits::PublicKeyParts as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::built::header;
use crate::guest::{Asked, NOW_SECONDS, Plugin};
use crate::measure::{Numbers, Series};
use crate::subject::{TRUST_DOMAIN, spiffe};

const ISSUER: &str = "https://issuer.example";
/// Credentials that are new to an instance in one turn.
const FIRST_TURN: usize = 8;
/// Requests with one known credential in one turn.
const AGAIN_TURN: usize = 256;

/// Who signs tokens.
enum Signer {
    Ring(Box<KeyPair>),
    Rsa(Box<RsaPrivateKey>),
}

/// Repeatable numbers for a key that guards nothing.
struct Repeatable(Numbers);

/// A kind of credential.
pub(crate) struct Credentials {
    /// What it is called in the table.
    pub(crate) name: &'static str,
    /// Whether the budget for tokens that are remembered is its.
    pub(crate) is_token: bool,
    /// Each seen for the first time.
    pub(crate) first: Series,
    /// One seen again.
    pub(crate) again: Series,
    certificates: &'static str,
    snapshot: Arc<Vec<u8>>,
    /// One to open the snapshot with, then those that are measured.
    requests: Vec<Arc<Asked>>,
}

/// Tokens of each algorithm, and chains.
pub(crate) fn all() -> Result<Vec<Credentials>> {
    let rsa = RsaPrivateKey::new(&mut Repeatable(Numbers(7)), 2048).map_err(failed)?;
    Ok(vec![
        tokens("token, EdDSA", "EdDSA", &Signer::Ring(Box::new(KeyPair::generate_for(&PKCS_ED25519)?)))?,
        tokens("token, ES256", "ES256", &Signer::Ring(Box::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)))?,
        tokens("token, ES384", "ES384", &Signer::Ring(Box::new(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?)))?,
        tokens("token, RS256 (2048 bits)", "RS256", &Signer::Rsa(Box::new(rsa)))?,
        chains("certificate below a root, P-256", &PKCS_ECDSA_P256_SHA256)?,
    ])
}

impl Credentials {
    /// One turn, with an instance of its own.
    pub(crate) fn turn(&mut self, plugin: &Plugin) -> Result<()> {
        let mut guest = plugin.start_with(&self.snapshot, self.certificates)?;
        let (warm, measured) = self.requests.split_first().context("no credentials")?;
        ensure!(guest.ask(warm)?, "{}: the request is denied", self.name);
        let mut denied = 0;
        self.first.round(measured.len(), || {
            denied += measured.iter().filter(|request| !guest.ask(request).unwrap_or(false)).count();
        });
        // The last one is known now, and its certificate is the last that was read.
        let known = measured.last().context("no credentials")?;
        self.again.round(AGAIN_TURN, || {
            denied += (0..AGAIN_TURN).filter(|_| !guest.ask(known).unwrap_or(false)).count();
        });
        ensure!(denied == 0, "{}: {denied} requests are denied", self.name);
        Ok(())
    }
}

/// One destination, `db`, that `web` may call, with a token if there is a provider.
fn policy(provider: Option<JwtProvider>, roots: Vec<CaRoot>) -> Result<Arc<Vec<u8>>> {
    let jwt = provider.as_ref().map(|provider| Requirement {
        providers: vec![ProviderRequirement { provider: provider.name.clone(), claims: Vec::new() }],
        mode: Mode::Enforce,
    });
    let source = ServiceName::in_default("web");
    let sources = vec![Source { source, rule: SourceRule::Action(Action::Allow), mode: Mode::Enforce }];
    let destination = ServiceName::in_default("db");
    let partition = destination.partition.clone();
    let bundle = TrustBundle { trust_domain: TRUST_DOMAIN.to_owned(), peer: None, partition, roots };
    let policy = Policy {
        settings: PolicySettings { trust_domains: vec![TRUST_DOMAIN.to_owned()], ..PolicySettings::default() },
        intentions: vec![Intention { destination, sources, jwt, mode: Mode::Enforce, broken: false }],
        providers: provider.into_iter().collect(),
        trust_bundles: if bundle.roots.is_empty() { Vec::new() } else { vec![bundle] },
        key_sets: BTreeMap::new(),
        ..Policy::default()
    };
    let (bytes, problems) = compile(&policy, 1, 0);
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(Arc::new(bytes))
}

// === tokens ===

fn tokens(name: &'static str, algorithm: &str, key: &Signer) -> Result<Credentials> {
    let provider = JwtProvider {
        name: "okta".to_owned(),
        issuer: ISSUER.to_owned(),
        audiences: Vec::new(),
        keys: KeySource::Inline(json!({"keys": [jwk(algorithm, key)?]}).to_string().into()),
        locations: Vec::new(),
        forwarding: None,
        clock_skew: 30,
        cache_size: 0,
        broken: false,
    };
    let certificate = header("web")?;
    let request = |index: usize| {
        let token = format!("Bearer {}", token(algorithm, key, index)?);
        Ok(Asked::new("db", &certificate, "/v1/items/17?full=1", &[("authorization", &token)]))
    };
    Ok(Credentials {
        name,
        is_token: true,
        first: Series::default(),
        again: Series::default(),
        certificates: "verifiedByTraefik",
        snapshot: policy(Some(provider), Vec::new())?,
        requests: (0..=FIRST_TURN).map(request).collect::<Result<_>>()?,
    })
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn failed(error: rsa::Error) -> anyhow::Error {
    anyhow!("{error}")
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of usual size.
fn token(algorithm: &str, key: &Signer, index: usize) -> Result<String> {
    let claims = json!({"iss": ISSUER, "sub": format!("user-{index}"), "aud": ["api"], "exp": NOW_SECONDS + 600,
        "iat": NOW_SECONDS - 60, "groups": ["staff", "shop", "billing"], "email": format!("user-{index}@example.com")});
    let head = json!({"alg": algorithm, "kid": "k1", "typ": "JWT"});
    let signed = format!("{}.{}", encode(head.to_string()), encode(claims.to_string()));
    let signature = match key {
        Signer::Ring(key) => key.sign(signed.as_bytes())?,
        Signer::Rsa(key) => key.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(&signed)).map_err(failed)?,
    };
    let signature = match algorithm {
        "ES256" => fixed_width(&signature, 32)?,
        "ES384" => fixed_width(&signature, 48)?,
        _ => signature,
    };
    Ok(format!("{signed}.{}", encode(signature)))
}

fn jwk(algorithm: &str, key: &Signer) -> Result<Value> {
    let key = match key {
        Signer::Rsa(key) => {
            let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
            return Ok(json!({"kty": "RSA", "kid": "k1", "n": encode(n), "e": encode(e)}));
        }
        Signer::Ring(key) => key.der_bytes(),
    };
    if algorithm == "EdDSA" {
        return Ok(json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": encode(key)}));
    }
    // An uncompressed point: 4, x, y.
    let (x, y) = key.get(1..).map(|point| point.split_at(point.len() / 2)).context("no point")?;
    let curve = if x.len() == 32 { "P-256" } else { "P-384" };
    Ok(json!({"kty": "EC", "crv": curve, "kid": "k1", "x": encode(x), "y": encode(y)}))
}

/// The signature as tokens have it: both numbers at full width.
fn fixed_width(der: &[u8], width: usize) -> Result<Vec<u8>> {
    let (r, s) = integers(der).context("the signature cannot be read")?;
    let padded = |number: &[u8]| [vec![0; width - number.len().min(width)].as_slice(), number].concat();
    Ok([padded(r), padded(s)].concat())
}

/// Both numbers of `SEQUENCE {INTEGER, INTEGER}`, without zeros in front.
fn integers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, inside, _) = element(der)?;
    let (_, first, rest) = element(inside)?;
    let (_, second, _) = element(rest)?;
    let trimmed = |number: &'_ [u8]| number.iter().position(|byte| *byte != 0).unwrap_or(0);
    Some((first.get(trimmed(first)..)?, second.get(trimmed(second)..)?))
}

/// Tag, content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, len], rest) = der.split_first_chunk::<2>()?;
    let n_bytes = usize::from(if len < 0x80 { 0 } else { len & 0x7f });
    let (long, rest) = rest.split_at_checked(n_bytes)?;
    let len =
        if len < 0x80 { usize::from(len) } else { long.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)) };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

impl RngCore for Repeatable {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.0.below(1 << 32)).unwrap_or(0)
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| u8::try_from(self.0.below(256)).unwrap_or(0));
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Repeatable {}

// === chains ===

/// Leaves as Consul issues them, straight below a root.
fn chains(name: &'static str, algorithm: &'static SignatureAlgorithm) -> Result<Credentials> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(algorithm)?;
    let root = CaRoot::from_der(params.self_signed(&key)?.der())?;
    let issuer = Issuer::new(params, key);
    let request = |_| {
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(spiffe("web").as_str().try_into()?)];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = leaf.signed_by(&KeyPair::generate_for(algorithm)?, &issuer)?;
        Ok(Asked::new("db", &BASE64_STANDARD.encode(leaf.der()), "/v1/items/17?full=1", &[]))
    };
    Ok(Credentials {
        name,
        is_token: false,
        first: Series::default(),
        again: Series::default(),
        certificates: "verify",
        snapshot: policy(None, vec![root])?,
        requests: (0..=FIRST_TURN).map(request).collect::<Result<_>>()?,
    })
}
