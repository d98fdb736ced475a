//! Keys that tests sign with, made for this and used for nothing else, and signing with them by the crates that our own
//! verification stands in for.

use p256::ecdsa::signature::hazmat::RandomizedPrehashSigner as _;
use rsa::{
    BigUint, Pkcs1v15Sign, Pss, RsaPrivateKey,
    rand_core::{CryptoRng, Error, RngCore},
    traits::{PrivateKeyParts as _, PublicKeyParts as _},
};
use sha2::{Sha256, Sha384, Sha512};

use super::{Curve, Hash, PublicKey};

/// The key of this size in bits: 2048, 2056 (whose encodings begin in a byte of their own) or 3072.
pub(crate) fn rsa_key(bits: usize) -> RsaPrivateKey {
    let (p, q) = match bits {
        2048 => (
            "ef605c272a1dfc5891480a7428467a86fc6d1d08d3ea2f22a8cda97e22b7278164a2abf4d9ef4e1229c01eb18976f4f6\
         50f59bfcc8db2f14863561710d8736bdeca8a955d5ffaee325f2e5acf7a6cfbd096d7cee43ef3b47302979141326fc22\
         75e555ef618dce5932cd5350e4383d25dd34c08a231f00db913cd260f900381b",
            "ee2d7e319f06bb4c057e93b90ac3d365fd9d7ffde19617554b6b4abb564795bf9c08781e94cb67476e3f55cd26e688f2\
         8c029552f4f0542bd16ac82594b9f387daf8a6c6ea84b76a524c37d1cb8bad0425085d4da6694eb30bd20d50be30f665\
         5f1eaf265e1de9fdf9a3702c8fa3dfb46d74665b84399d17262f83e1ff5c0505",
        ),
        2056 => (
            "e4e1673cbe54c45cad468c018a8c98f2ccfd1c0de34429ad75e2f38415da17d419bbbdf8e001743d1ac3547745325d31\
         c122fff7820567be0d16f87a20f46c6eade57b8b6812a5786252d09b9691c3a3b1b2ee2ca90c2af8d0d6519be5c1f5d9\
         33ad7d5c896f7fbdc3cf535fdfa3d9f634d88e53c440d434319fef6619b634337",
            "ccb1a3078fb3bf101de6f64820dd3ff144e53f5091d3e251a6592b1db61dd61993076ae38a099bda39a6afb8cb5a0038\
         de799a118da38ce5ca01526da9544571a79ca9406ded5295abe289bd2c870afc5c3f09c0cdf69cb9a49d84033be803a2\
         82c2d2871dab57283abd29b33e3ce212a02061a52db5d8b3990bd57d13dd01929",
        ),
        _ => (
            "f7ccbb8a66562408ac74d5afa108f822f2323d6d1a95249eff412e4981f9a83af029a02d5c4004ff6b1d0ddd24580e61\
         097edd7754c322954a54136a81827ca19912be7b10e0a3eb157dc8969e7ecfe54125c8390d8bafbf91ce44eb8846def9\
         cec01cb83f4567ea6955e2e5bd15e6d280b529a19afac83ef9d07eea2ad1baf84d18df02d18dc33b89b69554fdee5320\
         1cf821950269ad031d1d1373f2b107877ef077e0b784a726809da1a6a6e7ede3ffcda349479120f2278de4cb822f7d0d",
            "b77b079ea67e76d9f414243b48cd80efb667878bf0e5144d1d03985de606bf721b3b7e949ea909d155cfd3dcd4e21c69\
         9d6c5d4b6d63207179b6c5af15622cb14bf6e0ca734333f1717a854d91e3a94dbd757bf736a46f956cd135cc26ecdbf3\
         f0acd8ded356ecf025c4a53cf19105a998bd53eda753a8f1cebef2de233d25cbbf16d1ce9d3121c10e7d5236e8586c37\
         6a64c51f750bae0989137c02ad5bdd9202a5e059ee57e8cda1fd927b903b524b0212539945eae4ded71ff71cb03f9233",
        ),
    };
    let number = |hex: &str| BigUint::parse_bytes(hex.as_bytes(), 16).unwrap();
    RsaPrivateKey::from_p_q(number(p), number(q), BigUint::from(65537_u32)).unwrap()
}

/// Repeatable numbers: SHA-256 of a counter.
pub(crate) struct Numbers(pub(crate) u64);

impl RngCore for Numbers {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            self.0 += 1;
            chunk.copy_from_slice(&Hash::Sha256.digest(&[&self.0.to_be_bytes()])[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Numbers {}

/// Its public half.
pub(crate) fn public(key: &RsaPrivateKey) -> PublicKey {
    PublicKey::rsa(&key.n().to_bytes_be(), &key.e().to_bytes_be()).unwrap()
}

/// An RSASSA-PKCS1-v1_5 signature.
pub(crate) fn pkcs1(key: &RsaPrivateKey, hash: Hash, message: &[u8]) -> Vec<u8> {
    let padding = match hash {
        Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
        Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
        Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
    };
    key.sign(padding, &hash.digest(&[message])).unwrap()
}

/// An RSASSA-PSS signature with a salt of this length.
pub(crate) fn pss(key: &RsaPrivateKey, hash: Hash, salt: usize, message: &[u8]) -> Vec<u8> {
    let padding = match hash {
        Hash::Sha256 => Pss::new_with_salt::<Sha256>(salt),
        Hash::Sha384 => Pss::new_with_salt::<Sha384>(salt),
        Hash::Sha512 => Pss::new_with_salt::<Sha512>(salt),
    };
    key.sign_with_rng(&mut Numbers(0), padding, &hash.digest(&[message])).unwrap()
}

/// What the key signs is exactly this, padding included.
pub(crate) fn raw(key: &RsaPrivateKey, encoded: &[u8]) -> Vec<u8> {
    let signature = BigUint::from_bytes_be(encoded).modpow(key.d(), key.n()).to_bytes_be();
    [vec![0; key.size() - signature.len()], signature].concat()
}

/// A signature: `r` and `s` side by side, and as DER.
type Signed = (Vec<u8>, Vec<u8>);
/// What signs a digest.
type Sign = Box<dyn Fn(&[u8]) -> Signed>;

/// A key of this curve: its point, and what signs with it.
pub(crate) fn curve_key(curve: Curve, seed: u64) -> (Vec<u8>, Sign) {
    let mut secret = [0; 66];
    Numbers(seed * 100).fill_bytes(&mut secret);
    macro_rules! key {
        ($crate_name:ident, $len:expr) => {{
            let key = $crate_name::ecdsa::SigningKey::from_bytes((&secret[..$len]).into()).unwrap();
            let point = $crate_name::ecdsa::VerifyingKey::from(&key).to_encoded_point(false).as_bytes().to_vec();
            let sign = move |digest: &[u8]| {
                let signature: $crate_name::ecdsa::Signature =
                    key.sign_prehash_with_rng(&mut Numbers(seed), digest).unwrap();
                (signature.to_bytes().to_vec(), signature.to_der().as_bytes().to_vec())
            };
            (point, Box::new(sign))
        }};
    }
    match curve {
        Curve::P256 => key!(p256, 32),
        Curve::P384 => key!(p384, 48),
        Curve::P521 => {
            secret[0] = 0;
            key!(p521, 66)
        }
    }
}
