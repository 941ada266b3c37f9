//! Who may do what: permissions of several roles, merged, held against a model that asks of every key by itself.

use bytes::Bytes;
use engram_state::{Auth, AuthTables};
use engram_types::auth::{Allows, AuthError, Identity, Permission, Role, Secret, User};
use engram_types::{KeyRange, RangeEnd};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "permissions",
    run,
    seeds,
    cases: 40_000,
};

const ROLES: [&str; 3] = ["a", "b", "root"];
const PERMISSIONS_MAX: usize = 12;
const REVISION: u64 = 5;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    // Roles that are there, and those that the user has, which need not be.
    let (known, held) = (input.byte(), input.byte());
    let count = input.below(PERMISSIONS_MAX);
    let granted: Vec<(usize, Permission)> = (0..count)
        .map(|_| (input.below(ROLES.len()), permission(&mut input)))
        .collect();
    let auth = Auth::load(tables(known, held, &granted));
    let is_held = |role: usize| known & held & (1 << role) != 0;
    let holds: Vec<&Permission> = granted
        .iter()
        .filter(|(role, permission)| is_held(*role) && permission.is_valid())
        .map(|(_, permission)| permission)
        .collect();
    let is_root = held & 4 != 0;
    let by = Identity {
        user: "user".into(),
        revision: REVISION,
    };
    while !input.is_empty() {
        let (start, end) = bounds(&mut input);
        let asked = KeyRange::from_request(start, end);
        if asked.is_empty() {
            continue;
        }
        let may = |missing: Allows| {
            let of = holds.iter().filter(|held| held.allows != missing);
            is_root || covers(&of.map(|held| held.range()).collect::<Vec<_>>(), &asked)
        };
        let said = [
            (auth.may_read(&by, &asked), may(Allows::Write)),
            (auth.may_write(&by, &asked), may(Allows::Read)),
        ];
        for (said, may) in said {
            let expected = if may {
                Ok(())
            } else {
                Err(AuthError::PermissionDenied)
            };
            assert_eq!(said, expected, "{asked:?} of {holds:?}");
        }
        let old = Identity {
            revision: REVISION - 1,
            ..by.clone()
        };
        assert!(auth.may_read(&old, &asked).is_err());
        assert!(auth.may_write(&Identity::default(), &asked).is_err());
    }
}

/// Whether every key there can be in `asked` is in one of these. Between two neighbours of the keys at which
/// any of them begins or ends, all keys are in the same.
fn covers(granted: &[KeyRange], asked: &KeyRange) -> bool {
    let mut keys = vec![asked.start.clone()];
    for range in granted.iter().chain([asked]) {
        keys.push(range.start.clone());
        keys.extend(end(range));
    }
    let holds = |range: &KeyRange, key: &Bytes| {
        *key >= range.start && end(range).is_none_or(|end| *key < end)
    };
    let mut of_asked = keys.iter().filter(|key| holds(asked, key));
    of_asked.all(|key| granted.iter().any(|range| holds(range, key)))
}

/// The first key behind a range.
fn end(range: &KeyRange) -> Option<Bytes> {
    match &range.end {
        RangeEnd::Unbounded => None,
        RangeEnd::Before(end) => Some(end.clone()),
        RangeEnd::SingleKey => Some([&range.start[..], &[0]].concat().into()),
    }
}

fn tables(known: u8, held: u8, granted: &[(usize, Permission)]) -> AuthTables {
    let named = |set: u8| (0..ROLES.len()).filter(move |role| set & (1 << role) != 0);
    let roles = named(known).map(|role| Role {
        name: ROLES[role].into(),
        permissions: granted
            .iter()
            .filter(|(of, _)| *of == role)
            .map(|(_, permission)| permission.clone())
            .collect(),
    });
    let user = User {
        name: "user".into(),
        password_hash: Secret::default(),
        roles: named(held).map(|role| ROLES[role].into()).collect(),
        no_password: true,
    };
    AuthTables {
        switch: Some((true, REVISION)),
        users: vec![user],
        roles: roles.collect(),
    }
}

fn permission(input: &mut Input<'_>) -> Permission {
    let (key, range_end) = bounds(input);
    Permission {
        key,
        range_end,
        allows: [Allows::Read, Allows::Write, Allows::ReadWrite][input.below(3)],
    }
}

/// A range as requests have it. Keys are few and short, so that ranges meet and touch.
fn bounds(input: &mut Input<'_>) -> (Bytes, Bytes) {
    let shape = input.byte();
    let mut key = |length: u8| -> Bytes {
        let letters = (0..length % 3).map(|_| [0, b'a', b'b', 0xff][input.below(4)]);
        letters.collect::<Vec<u8>>().into()
    };
    let start = key(1 + shape % 2);
    let end = match (shape >> 2) % 4 {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        _ => key(1 + (shape >> 1) % 2),
    };
    (start, end)
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![
            3, 3, 2, 0, 0x08, 1, 2, 2, 1, 0x08, 2, 3, 2, 0x08, 1, 3, 0, 1,
        ],
        vec![1, 1, 1, 0, 0x04, 1, 0, 0x04, 2, 0, 1, 0x08, 2, 3],
        vec![7, 4, 0, 0x04, 0],
        vec![
            3, 3, 3, 0, 0, 1, 2, 0, 1, 1, 0, 1, 1, 8, 1, 0, 2, 0x0b, 1, 0, 2,
        ],
    ]
}
