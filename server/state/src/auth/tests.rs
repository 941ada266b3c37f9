//! The rules, with the cases of etcd's `store_test.go` and `range_perm_cache_test.go`.

use bytes::Bytes;

use super::{Auth, apply};
use crate::Effects;
use crate::Leases;
use crate::types::auth::{Allows, AuthError, AuthOp, Identity, Permission, Secret};
use crate::types::request::{DeleteRange, Op, Put, Txn, TxnOp};
use crate::types::{KeyRange, LeaseId};

fn range(key: &'static [u8], end: &'static [u8]) -> KeyRange {
    KeyRange::from_request(Bytes::from_static(key), Bytes::from_static(end))
}

fn permission(key: &'static [u8], end: &'static [u8], allows: Allows) -> Permission {
    Permission {
        key: Bytes::from_static(key),
        range_end: Bytes::from_static(end),
        allows,
    }
}

fn change(auth: &mut Auth, op: AuthOp) -> Result<(), AuthError> {
    apply(auth, &op, &mut Effects::default())
}

fn add_user(auth: &mut Auth, name: &str) {
    let op = AuthOp::UserAdd {
        name: name.into(),
        password_hash: Secret(b"$2a$".to_vec()),
        no_password: false,
    };
    change(auth, op).expect("a new user");
}

fn grant_role(auth: &mut Auth, user: &str, role: &str) -> Result<(), AuthError> {
    let (user, role) = (user.into(), role.into());
    change(auth, AuthOp::UserGrantRole { user, role })
}

fn grant(auth: &mut Auth, role: &str, permission: Permission) -> Result<(), AuthError> {
    let role = role.into();
    change(auth, AuthOp::RoleGrantPermission { role, permission })
}

/// Users root and u, a role r that u has; on.
fn enabled() -> Auth {
    let mut auth = Auth::default();
    add_user(&mut auth, "root");
    grant_role(&mut auth, "root", "root").expect("the root role needs not be there");
    add_user(&mut auth, "u");
    change(&mut auth, AuthOp::RoleAdd("r".into())).expect("a new role");
    grant_role(&mut auth, "u", "r").expect("both are there");
    change(&mut auth, AuthOp::Enable).expect("root is there");
    auth
}

fn by(auth: &Auth, user: &str) -> Identity {
    Identity {
        user: user.into(),
        revision: auth.revision(),
    }
}

#[test]
fn permissions_cover_what_they_cover_together() {
    type Grants = &'static [(&'static [u8], &'static [u8])];
    let cases: &[(Grants, &[u8], &[u8], bool)] = &[
        (&[(b"a", b"c"), (b"x", b"z")], b"a", b"z", false),
        (
            &[(b"a", b"f"), (b"c", b"d"), (b"f", b"z")],
            b"a",
            b"z",
            true,
        ),
        (
            &[(b"a", b"d"), (b"a", b"b"), (b"c", b"f")],
            b"a",
            b"f",
            true,
        ),
        (
            &[(b"a", b"d"), (b"a", b"b"), (b"c", b"f")],
            b"a",
            b"z",
            false,
        ),
        (&[(b"a", b"\0")], b"a", b"\0", true),
        (&[(b"a", b"\0")], b"b", b"\0", true),
        (&[(b"b", b"\0")], b"a", b"\0", false),
        (&[(b"a", b"z")], b"a", b"\0", false),
        (&[(b"a", b"z"), (b"z", b"\0")], b"a", b"\0", true),
        (&[(b"\0", b"\0")], b"x", b"", true),
        (&[(b"a", b"")], b"a", b"", true),
        (&[(b"a", b"")], b"a", b"b", false),
        (&[(b"a", b"")], b"a\0", b"", false),
        (&[(b"a", b""), (b"a\0", b"b")], b"a", b"b", true),
        (&[(b"k1", b"")], b"k1", b"\0", false),
        (&[(b"b", b"d")], b"c", b"a", false),
        (&[(b"b", b"d")], b"d", b"a", false),
        (&[], b"a", b"", false),
    ];
    for (grants, key, end, covered) in cases {
        let mut auth = enabled();
        for (key, end) in *grants {
            grant(&mut auth, "r", permission(key, end, Allows::ReadWrite)).expect("valid");
        }
        let asked = KeyRange::from_request(Bytes::from_static(key), Bytes::from_static(end));
        let user = by(&auth, "u");
        assert_eq!(
            auth.may_read(&user, &asked).is_ok(),
            *covered,
            "{grants:?} {asked:?}"
        );
        assert_eq!(
            auth.may_write(&user, &asked).is_ok(),
            *covered,
            "{grants:?} {asked:?}"
        );
        assert_eq!(auth.may_read(&by(&auth, "root"), &asked), Ok(()));
    }
}

#[test]
fn a_permission_without_sense_is_refused() {
    let mut auth = enabled();
    for (key, end) in [
        (&b""[..], &b""[..]),
        (b"", b"\0"),
        (b"b", b"a"),
        (b"a", b"a"),
    ] {
        let refused = grant(&mut auth, "r", permission(key, end, Allows::Read));
        assert_eq!(
            refused,
            Err(AuthError::InvalidManagement),
            "{key:?} {end:?}"
        );
    }
    let refused = grant(&mut auth, "none", permission(b"a", b"", Allows::Read));
    assert_eq!(refused, Err(AuthError::RoleNotFound));
}

#[test]
fn reading_and_writing_are_granted_apart() {
    let mut auth = enabled();
    grant(&mut auth, "r", permission(b"r", b"", Allows::Read)).expect("valid");
    grant(&mut auth, "r", permission(b"w", b"", Allows::Write)).expect("valid");
    let user = by(&auth, "u");
    let denied = Err(AuthError::PermissionDenied);
    assert_eq!(auth.may_read(&user, &range(b"r", b"")), Ok(()));
    assert_eq!(auth.may_write(&user, &range(b"r", b"")), denied);
    assert_eq!(auth.may_read(&user, &range(b"w", b"")), denied);
    assert_eq!(auth.may_write(&user, &range(b"w", b"")), Ok(()));
    // Granting the same keys anew changes what is allowed.
    grant(&mut auth, "r", permission(b"r", b"", Allows::Write)).expect("valid");
    let user = by(&auth, "u");
    assert_eq!(auth.may_read(&user, &range(b"r", b"")), denied);
    assert_eq!(auth.role("r").map(|role| role.permissions.len()), Some(2));
}

#[test]
fn who_is_not_known_or_out_of_date_is_refused() {
    let mut auth = enabled();
    let key = range(b"a", b"");
    let nobody = Identity::default();
    assert_eq!(auth.may_read(&nobody, &key), Err(AuthError::UserEmpty));
    let stranger = by(&auth, "x");
    assert_eq!(
        auth.may_read(&stranger, &key),
        Err(AuthError::PermissionDenied)
    );
    assert_eq!(auth.check_admin(&nobody), Err(AuthError::UserEmpty));
    assert_eq!(auth.check_admin(&stranger), Err(AuthError::UserNotFound));
    assert_eq!(
        auth.check_admin(&by(&auth, "u")),
        Err(AuthError::PermissionDenied)
    );
    let root = by(&auth, "root");
    change(&mut auth, AuthOp::RoleAdd("other".into())).expect("a new role");
    assert_eq!(auth.may_read(&root, &key), Err(AuthError::OldRevision));
    change(&mut auth, AuthOp::Disable).expect("always");
    assert_eq!(auth.may_read(&nobody, &key), Ok(()));
    assert_eq!(auth.check_admin(&nobody), Ok(()));
}

#[test]
fn root_stays_as_long_as_authentication_is_on() {
    let mut auth = enabled();
    let refused = Err(AuthError::InvalidManagement);
    assert_eq!(
        change(&mut auth, AuthOp::UserDelete("root".into())),
        refused
    );
    assert_eq!(
        change(&mut auth, AuthOp::RoleDelete("root".into())),
        refused
    );
    let (user, role) = ("root".into(), "root".into());
    assert_eq!(
        change(&mut auth, AuthOp::UserRevokeRole { user, role }),
        refused
    );
    change(&mut auth, AuthOp::Disable).expect("always");
    change(&mut auth, AuthOp::UserDelete("root".into())).expect("off");
    assert_eq!(
        change(&mut auth, AuthOp::Enable),
        Err(AuthError::RootUserNotExist)
    );
    add_user(&mut auth, "root");
    assert_eq!(
        change(&mut auth, AuthOp::Enable),
        Err(AuthError::RootRoleNotExist)
    );
}

#[test]
fn each_change_is_one_revision_and_a_refused_one_none() {
    let mut auth = Auth::default();
    assert_eq!(auth.revision(), 1);
    add_user(&mut auth, "u");
    assert_eq!(auth.revision(), 2);
    let again = AuthOp::UserAdd {
        name: "u".into(),
        password_hash: Secret::default(),
        no_password: true,
    };
    assert_eq!(change(&mut auth, again), Err(AuthError::UserExists));
    assert_eq!(
        grant_role(&mut auth, "u", "r"),
        Err(AuthError::RoleNotFound)
    );
    assert_eq!(
        grant_role(&mut auth, "x", "r"),
        Err(AuthError::UserNotFound)
    );
    assert_eq!(auth.revision(), 2);
    grant_role(&mut auth, "u", "root").expect("the root role needs not be there");
    grant_role(&mut auth, "u", "root").expect("granted already");
    assert_eq!(auth.revision(), 3);
    let (user, role) = ("u".to_owned(), "r".to_owned());
    let revoke = AuthOp::UserRevokeRole { user, role };
    assert_eq!(change(&mut auth, revoke), Err(AuthError::RoleNotGranted));
    change(&mut auth, AuthOp::Disable).expect("always");
    assert_eq!(auth.revision(), 3, "it was off");
}

#[test]
fn a_role_that_goes_takes_what_it_allowed_along() {
    let mut auth = enabled();
    grant(&mut auth, "r", permission(b"a", b"", Allows::Read)).expect("valid");
    assert!(auth.may_read(&by(&auth, "u"), &range(b"a", b"")).is_ok());
    change(&mut auth, AuthOp::RoleDelete("r".into())).expect("there");
    assert!(auth.may_read(&by(&auth, "u"), &range(b"a", b"")).is_err());
    assert_eq!(auth.user("u").map(|user| user.roles.len()), Some(0));
}

fn put(key: &'static [u8], lease: i64, prev_kv: bool) -> Put {
    Put {
        key: Bytes::from_static(key),
        value: Bytes::new(),
        lease: LeaseId(lease),
        prev_kv,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn within_txns(op: TxnOp, levels: usize) -> Op {
    let mut op = op;
    for _ in 0..levels {
        let txn = Txn {
            failure: vec![op],
            ..Txn::default()
        };
        op = TxnOp::Txn(txn);
    }
    let txn = Txn {
        success: vec![op],
        ..Txn::default()
    };
    Op::Txn(txn)
}

/// CVE-2026-33343, CVE-2026-44283: transactions within transactions, `prev_kv` and a lease in them.
#[test]
fn however_deep_a_write_is_it_needs_its_permission() {
    let mut auth = enabled();
    grant(&mut auth, "r", permission(b"w", b"", Allows::Write)).expect("valid");
    let mut leases = Leases::default();
    leases.grant(LeaseId(7), 60).expect("a new lease");
    leases.attach(b"secret", LeaseId(7));
    let user = by(&auth, "u");
    let delete = |prev_kv| DeleteRange {
        range: range(b"w", b""),
        prev_kv,
    };
    for levels in [0, 1, 3] {
        for (op, allowed) in [
            (TxnOp::Put(put(b"w", 0, false)), true),
            (TxnOp::Put(put(b"w", 0, true)), false),
            (TxnOp::Put(put(b"w", 7, false)), false),
            (TxnOp::Put(put(b"x", 0, false)), false),
            (TxnOp::DeleteRange(delete(false)), true),
            (TxnOp::DeleteRange(delete(true)), false),
            (
                TxnOp::Range(crate::types::request::Range::all(range(b"w", b""))),
                false,
            ),
        ] {
            let op = within_txns(op, levels);
            let outcome = super::authorise(&auth, &leases, Some(&user), &op);
            assert_eq!(outcome.is_ok(), allowed, "{op:?}");
        }
    }
    let revoke = Op::LeaseRevoke(LeaseId(7));
    let refused = super::authorise(&auth, &leases, Some(&user), &revoke);
    assert_eq!(refused, Err(AuthError::PermissionDenied));
    let refused = super::authorise(&auth, &leases, None, &revoke);
    assert_eq!(refused, Err(AuthError::UserEmpty));
    let leader = Identity::member();
    let revoked = super::authorise(&auth, &leases, Some(&leader), &revoke);
    assert_eq!(revoked, Ok(()), "it has expired");
    let unasked = Op::Put(put(b"w", 0, false));
    let refused = super::authorise(&auth, &leases, None, &unasked);
    assert_eq!(refused, Err(AuthError::UserEmpty));
}

/// CVE-2023-32082: every key of a lease counts, and looking at them takes as many steps as there are
/// ranges of permissions.
#[test]
fn a_lease_is_held_against_every_one_of_its_keys() {
    let mut auth = enabled();
    grant(&mut auth, "r", permission(b"b", b"c", Allows::ReadWrite)).expect("valid");
    grant(&mut auth, "r", permission(b"x", b"", Allows::Write)).expect("valid");
    grant(&mut auth, "r", permission(b"y", b"\0", Allows::Read)).expect("valid");
    let (user, denied) = (by(&auth, "u"), Err(AuthError::PermissionDenied));
    let id = LeaseId(7);
    let mut leases = Leases::default();
    leases.grant(id, 60).expect("a new lease");
    assert_eq!(
        auth.may_read_lease(&leases, &Identity::default(), id),
        Ok(())
    );
    for (key, may_read, may_write) in [
        (&b"b"[..], true, true),
        (b"bzz", true, true),
        (b"x", false, true),
        (b"y", true, false),
        (b"a", false, false),
        (b"c", false, false),
        (b"x\0", false, false),
    ] {
        leases.attach(key, id);
        let wanted = |may| if may { Ok(()) } else { denied };
        assert_eq!(
            auth.may_read_lease(&leases, &user, id),
            wanted(may_read),
            "{key:?}"
        );
        assert_eq!(
            auth.may_write_lease(&leases, &user, id),
            wanted(may_write),
            "{key:?}"
        );
        assert_eq!(
            auth.may_write_lease(&leases, &by(&auth, "root"), id),
            Ok(())
        );
        if key != b"b" {
            leases.attach(key, LeaseId::NONE);
        }
    }
    for n in 0..100_000_u32 {
        leases.attach(&[&b"b"[..], &n.to_be_bytes()].concat(), id);
    }
    leases.attach(b"z", id);
    let looks = std::cell::Cell::new(0);
    let keys = |from: &[u8]| {
        looks.set(looks.get() + 1);
        leases.key_from(id, from)
    };
    assert!(auth.may(&user, |merged| merged.may_read_all(keys)).is_ok());
    assert_eq!(looks.get(), 2);
}

#[test]
fn secrets_are_shown_by_nothing() {
    let op = AuthOp::UserAdd {
        name: "u".into(),
        password_hash: Secret(b"hash".to_vec()),
        no_password: false,
    };
    assert!(!format!("{op:?}").contains("hash: S\"hash") && !format!("{op:?}").contains("104"));
}
