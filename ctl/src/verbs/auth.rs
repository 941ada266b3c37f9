//! `auth`, `user`, `role`.

use std::io::BufRead as _;

use engram_backup::channel::Channel;
use engram_proto::authpb;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::auth_client::AuthClient;

use super::request::prefix_end;
use crate::cli::{Auth, Global, Keys, Permission, Role, Secret, User};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::output::{self, Answer};

/// The name of the user and of the role that may do everything.
const ROOT: &str = "root";
/// The end of a range that has none.
const OPEN: &[u8] = b"\0";

type Client = AuthClient<Channel>;

async fn client(global: &Global) -> Result<Client, Failure> {
    Ok(AuthClient::new(any(global).await?.channel))
}

/// Writes a sentence, or the answer, which has a header and nothing else. `name` is the answer's.
fn done(
    global: &Global,
    sentence: &str,
    name: &str,
    answer: &impl prost::Message,
    header: &Option<pb::ResponseHeader>,
) -> Result<(), Failure> {
    Answer::new(|| format!("{sentence}\n").into())
        .message(name, answer)
        .fields(global, |fields| fields.header(header))
        .write(global)
}

fn lines(found: &[String]) -> Vec<u8> {
    let lines = found.iter().map(|name| format!("{name}\n"));
    lines.collect::<String>().into()
}

/// `auth`.
pub async fn auth(global: &Global, command: Auth) -> Result<(), Failure> {
    let mut client = client(global).await?;
    match command {
        Auth::Enable => {
            enable(global, &mut client).await?;
            output::text("Authentication Enabled\n")
        }
        Auth::Disable => {
            within(global, client.auth_disable(pb::AuthDisableRequest {})).await?;
            output::text("Authentication Disabled\n")
        }
        Auth::Status => {
            let asked = client.auth_status(pb::AuthStatusRequest {});
            let answer = within(global, asked).await?.into_inner();
            let (enabled, revision) = (answer.enabled, answer.auth_revision);
            let text =
                || format!("Authentication Status: {enabled}\nAuthRevision: {revision}\n").into();
            Answer::new(text)
                .message("AuthStatusResponse", &answer)
                .write(global)
        }
    }
}

/// As etcdctl does, gives root its role first where it has none.
async fn enable(global: &Global, client: &mut Client) -> Result<(), Failure> {
    let Err(refused) = client.auth_enable(pb::AuthEnableRequest {}).await else {
        return Ok(());
    };
    if refused.message() != "etcdserver: root user does not have root role" {
        return Err(refused.into());
    }
    let role = pb::AuthRoleAddRequest { name: ROOT.into() };
    within(global, client.role_add(role)).await?;
    let (user, role) = (ROOT.to_owned(), ROOT.to_owned());
    let grant = pb::AuthUserGrantRoleRequest { user, role };
    within(global, client.user_grant_role(grant)).await?;
    within(global, client.auth_enable(pb::AuthEnableRequest {})).await?;
    Ok(())
}

/// `user`.
pub async fn user(global: &Global, command: User) -> Result<(), Failure> {
    let mut client = client(global).await?;
    match command {
        User::Add {
            user,
            interactive,
            new_user_password,
            no_password,
        } => {
            let (name, password) = match (no_password, new_user_password) {
                (true, _) => (user.0, String::new()),
                (false, Some(password)) => (user.0, password.0),
                (false, None) => named(user, interactive)?,
            };
            let options = Some(authpb::UserAddOptions { no_password });
            let sentence = format!("User {name} created");
            let request = pb::AuthUserAddRequest {
                name,
                password,
                options,
                hashed_password: String::new(),
            };
            let answer = within(global, client.user_add(request)).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthUserAddResponse",
                &answer,
                &answer.header,
            )
        }
        User::Delete { user } => {
            let sentence = format!("User {user} deleted");
            let request = pb::AuthUserDeleteRequest { name: user };
            let answer = within(global, client.user_delete(request)).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthUserDeleteResponse",
                &answer,
                &answer.header,
            )
        }
        User::Get { user, detail } => show_user(global, &mut client, &user, detail).await,
        User::List => {
            let answer = within(global, client.user_list(pb::AuthUserListRequest {})).await?;
            let answer = answer.into_inner();
            Answer::new(|| lines(&answer.users))
                .message("AuthUserListResponse", &answer)
                .write(global)
        }
        User::Passwd { user, interactive } => {
            let request = pb::AuthUserChangePasswordRequest {
                password: password(&user, interactive)?,
                name: user,
                hashed_password: String::new(),
            };
            let answer = within(global, client.user_change_password(request)).await?;
            let answer = answer.into_inner();
            done(
                global,
                "Password updated",
                "AuthUserChangePasswordResponse",
                &answer,
                &answer.header,
            )
        }
        User::GrantRole { user, role } => {
            let sentence = format!("Role {role} is granted to user {user}");
            let request = pb::AuthUserGrantRoleRequest { user, role };
            let answer = within(global, client.user_grant_role(request)).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthUserGrantRoleResponse",
                &answer,
                &answer.header,
            )
        }
        User::RevokeRole { user, role } => {
            let sentence = format!("Role {role} is revoked from user {user}");
            let request = pb::AuthUserRevokeRoleRequest { name: user, role };
            let answer = within(global, client.user_revoke_role(request)).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthUserRevokeRoleResponse",
                &answer,
                &answer.header,
            )
        }
    }
}

/// Name and password, out of `name:password` or asked for.
fn named(user: Secret, interactive: bool) -> Result<(String, String), Failure> {
    match user.0.split_once(':') {
        Some(("", _)) => Err(Failure::arguments("empty user name is not allowed")),
        Some((name, password)) => Ok((name.to_owned(), password.to_owned())),
        None => {
            let password = password(&user.0, interactive)?;
            Ok((user.0, password))
        }
    }
}

/// Asks the terminal twice, or takes the first word of standard input.
fn password(name: &str, interactive: bool) -> Result<String, Failure> {
    if !interactive {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        let word = line.split_whitespace().next();
        return Ok(word.unwrap_or_default().to_owned());
    }
    let first = ask(&format!("Password of {name}: "))?;
    if first.is_empty() {
        return Err(Failure::arguments("empty password"));
    }
    let again = ask(&format!("Type password of {name} again for confirmation: "))?;
    match first == again {
        true => Ok(first),
        false => Err(Failure::arguments("given passwords are different")),
    }
}

/// Asks for something that is not to be shown.
pub fn ask(prompt: &str) -> Result<String, Failure> {
    let asked = rpassword::prompt_password(prompt);
    asked.map_err(|error| Failure::arguments(format!("failed to ask password: {error}")))
}

async fn show_user(
    global: &Global,
    client: &mut Client,
    user: &str,
    detail: bool,
) -> Result<(), Failure> {
    let request = pb::AuthUserGetRequest {
        name: user.to_owned(),
    };
    let answer = within(global, client.user_get(request)).await?.into_inner();
    if detail {
        output::text(&format!("User: {user}\n"))?;
        for role in &answer.roles {
            output::text("\n")?;
            show_role(global, client, role).await?;
        }
        return Ok(());
    }
    let text = || {
        let roles = answer.roles.iter().map(|role| format!(" {role}"));
        let roles: String = roles.collect();
        format!("User: {user}\nRoles:{roles}\n").into()
    };
    Answer::new(text)
        .message("AuthUserGetResponse", &answer)
        .write(global)
}

/// `role`.
pub async fn role(global: &Global, command: Role) -> Result<(), Failure> {
    let mut client = client(global).await?;
    match command {
        Role::Add { role } => {
            let sentence = format!("Role {role} created");
            let answer = client.role_add(pb::AuthRoleAddRequest { name: role });
            let answer = within(global, answer).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthRoleAddResponse",
                &answer,
                &answer.header,
            )
        }
        Role::Delete { role } => {
            let sentence = format!("Role {role} deleted");
            let answer = client.role_delete(pb::AuthRoleDeleteRequest { role });
            let answer = within(global, answer).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthRoleDeleteResponse",
                &answer,
                &answer.header,
            )
        }
        Role::Get { role } => show_role(global, &mut client, &role).await,
        Role::List => {
            let answer = within(global, client.role_list(pb::AuthRoleListRequest {})).await?;
            let answer = answer.into_inner();
            Answer::new(|| lines(&answer.roles))
                .message("AuthRoleListResponse", &answer)
                .fields(global, |fields| {
                    fields.header(&answer.header);
                    fields.list("Roles", &answer.roles);
                })
                .write(global)
        }
        Role::GrantPermission {
            role,
            permission,
            keys,
        } => {
            let (key, range_end) = range(&keys);
            let perm_type = match permission {
                Permission::Read => authpb::permission::Type::Read,
                Permission::Write => authpb::permission::Type::Write,
                Permission::Readwrite => authpb::permission::Type::Readwrite,
            };
            let sentence = format!("Role {role} updated");
            let request = pb::AuthRoleGrantPermissionRequest {
                name: role,
                perm: Some(authpb::Permission {
                    perm_type: perm_type.into(),
                    key: key.into(),
                    range_end: range_end.into(),
                }),
            };
            let answer = within(global, client.role_grant_permission(request)).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthRoleGrantPermissionResponse",
                &answer,
                &answer.header,
            )
        }
        Role::RevokePermission { role, keys } => {
            let (key, range_end) = range(&keys);
            let of = match &range_end[..] {
                b"" => format!("key {}", keys.key),
                OPEN => format!("range [{}, <open ended>", keys.key),
                end => format!("range [{}, {})", keys.key, String::from_utf8_lossy(end)),
            };
            let sentence = format!("Permission of {of} is revoked from role {role}");
            let request = pb::AuthRoleRevokePermissionRequest {
                role,
                key: key.into(),
                range_end: range_end.into(),
            };
            let answer = within(global, client.role_revoke_permission(request)).await?;
            let answer = answer.into_inner();
            done(
                global,
                &sentence,
                "AuthRoleRevokePermissionResponse",
                &answer,
                &answer.header,
            )
        }
    }
}

/// The key and the range's end, as etcdctl makes them of its arguments.
fn range(keys: &Keys) -> (Vec<u8>, Vec<u8>) {
    let key = keys.key.clone().into_bytes();
    match (&keys.end, keys.prefix, keys.from_key) {
        // Without a first key the first there is.
        _ if key.is_empty() => {
            let end = if keys.prefix || keys.from_key {
                OPEN
            } else {
                b""
            };
            (OPEN.to_vec(), end.to_vec())
        }
        (Some(end), ..) => (key, end.clone().into_bytes()),
        (None, true, _) => {
            let end = prefix_end(&key);
            (key, end)
        }
        (None, false, true) => (key, OPEN.to_vec()),
        (None, false, false) => (key, Vec::new()),
    }
}

async fn show_role(global: &Global, client: &mut Client, role: &str) -> Result<(), Failure> {
    let request = pb::AuthRoleGetRequest {
        role: role.to_owned(),
    };
    let answer = within(global, client.role_get(request)).await?.into_inner();
    let allowed = |kind: authpb::permission::Type| {
        let both = i32::from(authpb::permission::Type::Readwrite);
        let kind = i32::from(kind);
        let held = answer.perm.iter();
        let held = held.filter(move |held| held.perm_type == kind || held.perm_type == both);
        held.map(line).collect::<String>()
    };
    let text = || {
        if role == ROOT && answer.perm.is_empty() {
            let all = "\t[, <open ended>\n";
            return format!("Role {role}\nKV Read:\n{all}KV Write:\n{all}").into();
        }
        let reads = allowed(authpb::permission::Type::Read);
        let writes = allowed(authpb::permission::Type::Write);
        format!("Role {role}\nKV Read:\n{reads}KV Write:\n{writes}").into()
    };
    Answer::new(text)
        .message("AuthRoleGetResponse", &answer)
        .fields(global, |fields| {
            fields.header(&answer.header);
            for held in &answer.perm {
                // Two blanks, as in etcdctl.
                fields.line(
                    "PermType",
                    format_args!(" {}", held.perm_type().as_str_name()),
                );
                fields.quoted("Key", &held.key);
                fields.quoted("RangeEnd", &held.range_end);
            }
        })
        .write(global)
}

fn line(held: &authpb::Permission) -> String {
    let (key, end) = (
        String::from_utf8_lossy(&held.key),
        String::from_utf8_lossy(&held.range_end),
    );
    if held.range_end.is_empty() {
        return format!("\t{key}\n");
    }
    let range = match &held.range_end[..] {
        OPEN => format!("\t[{key}, <open ended>"),
        _ => format!("\t[{key}, {end})"),
    };
    match !key.is_empty() && prefix_end(&held.key) == held.range_end {
        true => format!("{range} (prefix {key})\n"),
        false => format!("{range}\n"),
    }
}
