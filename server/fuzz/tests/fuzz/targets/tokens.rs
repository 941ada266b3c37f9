//! JSON Web Tokens: one that nobody signed is nobody's, whatever it says; of one that is signed what it says
//! counts, and no more; keys that are none are refused.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use engram_auth::{Jwt, Tokens};
use serde_json::Value;

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "tokens",
    run,
    seeds,
    cases: 20_000,
};

const SECRET: &[u8] = b"a secret of theirs";
const NOW: u64 = 1_800_000_000;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const METHODS: [&str; 5] = ["RS256", "PS512", "ES256", "ES512", "EdDSA"];
const SECTIONS: [&str; 5] = [
    "PUBLIC KEY",
    "CERTIFICATE",
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
];

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => unsigned(&mut input),
        1 => signed(&mut input),
        2 => issued(&mut input),
        _ => keys(&mut input),
    }
}

fn jwt() -> Jwt {
    Jwt::new("HS256", None, Some(SECRET), 300).expect("a secret is enough")
}

/// What a client makes up: its text, and one that is signed, changed.
fn unsigned(input: &mut Input<'_>) {
    let sound = jwt().issue("root", 3, NOW).expect("there is a secret");
    let mut changed = sound.clone().into_bytes();
    input.damage(&mut changed);
    let text = String::from_utf8_lossy(&changed);
    let _ = Tokens::index(&text);
    if let Some(holder) = jwt().holder(&text, NOW) {
        // Bits that say nothing, at the end of the signature, may be others.
        let body = |token: &str| token.rsplit_once('.').map(|(body, _)| body.to_owned());
        assert_eq!((holder.user.as_str(), holder.revision), ("root", 3));
        assert_eq!(body(&text), body(&sound), "{text} is taken");
    }
}

/// Any header and claims, signed as the server would.
fn signed(input: &mut Input<'_>) {
    let header = match input.byte() {
        0..200 => HEADER.as_bytes(),
        _ => input.piece(),
    };
    let claims = input.rest();
    let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let mut token = format!("{}.{}", encoded(header), encoded(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, token.as_bytes());
    token.push('.');
    token.push_str(&encoded(signature.as_ref()));
    let Some(holder) = jwt().holder(&token, NOW) else {
        return;
    };
    let method: Value = serde_json::from_slice(header).expect("it was understood");
    let claims: Value = serde_json::from_slice(claims).expect("it was understood");
    assert_eq!(method["alg"], "HS256");
    assert_eq!(claims["username"], holder.user.as_str());
    let ended = claims
        .get("exp")
        .is_some_and(|exp| exp.as_f64() <= Some(NOW as f64));
    assert!(!ended, "a token that has ended is taken");
}

/// What is issued is held by whom it was issued to, while it lasts.
fn issued(input: &mut Input<'_>) {
    let (revision, later) = (u64::from(input.short()), u64::from(input.short()));
    let user = String::from_utf8_lossy(input.take(2_000)).into_owned();
    let token = jwt()
        .issue(&user, revision, NOW)
        .expect("there is a secret");
    let holder = jwt().holder(&token, NOW + later);
    assert_eq!(holder.is_some(), later < 300, "{later} s later");
    if let Some(holder) = holder {
        assert_eq!((holder.user, holder.revision), (user, revision));
    }
}

fn keys(input: &mut Input<'_>) {
    let method = METHODS[input.below(METHODS.len())];
    let pem = |input: &mut Input<'_>| -> Option<Vec<u8>> {
        let kind = input.byte();
        let bytes = input.piece();
        match kind {
            0..40 => None,
            40..60 => Some(bytes.to_vec()),
            _ => {
                let section = SECTIONS[usize::from(kind) % SECTIONS.len()];
                let text = BASE64_STANDARD.encode(bytes);
                Some(format!("-----BEGIN {section}-----\n{text}\n-----END {section}-----\n").into())
            }
        }
    };
    let (public, private) = (pem(input), pem(input));
    if let Ok(jwt) = Jwt::new(method, public.as_deref(), private.as_deref(), 300) {
        match jwt.issue("root", 1, NOW) {
            Ok(token) => assert!(jwt.holder(&token, NOW).is_some(), "its own token"),
            Err(_) => assert_eq!(jwt.holder("a.b.c", NOW), None),
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let ed25519 = super::certificates::key().serialize_der();
    let pair = [&[3, 4, 0, 0, 62, ed25519.len() as u8][..], &ed25519].concat();
    let claims = |text: &str| [&[1, 0], text.as_bytes()].concat();
    vec![
        vec![0],
        vec![0, 0, 40, 0, 1, b'x'],
        vec![0, 135, 60, 0],
        claims(r#"{"username":"a","revision":3,"exp":1800000300}"#),
        claims(r#"{"username":"a","revision":3.5,"exp":1.8e9,"nbf":-1}"#),
        claims(r#"{"username":"a","revision":-1}"#),
        [
            &[1, 200, 14][..],
            br#"{"alg":"none"}"#,
            br#"{"username":"root","revision":1}"#,
        ]
        .concat(),
        vec![2, 3, 0, 9, 0, b'a'],
        vec![2, 0, 0, 44, 1],
        pair,
        vec![3, 0, 60, 4, 0x30, 2, 0x30, 0, 0, 0],
    ]
}
