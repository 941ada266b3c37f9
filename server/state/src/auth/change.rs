//! What each change of users and roles does, and when it is refused. Every check comes before the
//! first change.

use crate::types::auth::{AuthError, AuthOp, Permission, ROOT_ROLE, ROOT_USER, Role, Secret, User};
use crate::{Change, Effects};

use super::{Auth, is_root};

/// Applies a change.
///
/// # Errors
/// It is refused, and nothing has changed.
pub fn apply(auth: &mut Auth, op: &AuthOp, effects: &mut Effects) -> Result<(), AuthError> {
    match op {
        AuthOp::Enable => auth.enable(effects),
        AuthOp::Disable => {
            auth.disable(effects);
            Ok(())
        }
        AuthOp::Authenticate { user, .. } => auth.check_authenticate(user),
        AuthOp::UserAdd {
            name,
            password_hash,
            no_password,
        } => auth.user_add(name, password_hash, *no_password, effects),
        AuthOp::UserDelete(name) => auth.user_delete(name, effects),
        AuthOp::UserChangePassword {
            name,
            password_hash,
        } => auth.user_change_password(name, password_hash, effects),
        AuthOp::UserGrantRole { user, role } => auth.user_grant_role(user, role, effects),
        AuthOp::UserRevokeRole { user, role } => auth.user_revoke_role(user, role, effects),
        AuthOp::RoleAdd(name) => auth.role_add(name, effects),
        AuthOp::RoleDelete(name) => auth.role_delete(name, effects),
        AuthOp::RoleGrantPermission { role, permission } => {
            auth.role_grant_permission(role, permission, effects)
        }
        AuthOp::RoleRevokePermission {
            role,
            key,
            range_end,
        } => auth.role_revoke_permission(role, key, range_end, effects),
    }
}

impl Auth {
    /// Enabling changes no revision, as in etcd.
    fn enable(&mut self, effects: &mut Effects) -> Result<(), AuthError> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT_USER);
        if !is_root(root.ok_or(AuthError::RootUserNotExist)?) {
            return Err(AuthError::RootRoleNotExist);
        }
        self.enabled = true;
        self.save_switch(effects);
        Ok(())
    }

    fn disable(&mut self, effects: &mut Effects) {
        if self.enabled {
            self.enabled = false;
            self.commit(effects);
        }
    }

    fn check_authenticate(&self, user: &str) -> Result<(), AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        match self.users.get(user) {
            Some(user) if !user.no_password => Ok(()),
            _ => Err(AuthError::Failed),
        }
    }

    fn user_add(
        &mut self,
        name: &str,
        password_hash: &Secret,
        no_password: bool,
        effects: &mut Effects,
    ) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(AuthError::UserExists);
        }
        let password_hash = match no_password {
            true => Secret::default(),
            false => password_hash.clone(),
        };
        let user = User {
            name: name.to_owned(),
            password_hash,
            roles: Vec::new(),
            no_password,
        };
        self.put_user(user, effects);
        self.commit(effects);
        Ok(())
    }

    fn user_delete(&mut self, name: &str, effects: &mut Effects) -> Result<(), AuthError> {
        if self.enabled && name == ROOT_USER {
            return Err(AuthError::InvalidManagement);
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        effects.changes.push(Change::DeleteUser(name.to_owned()));
        self.commit(effects);
        Ok(())
    }

    fn user_change_password(
        &mut self,
        name: &str,
        password_hash: &Secret,
        effects: &mut Effects,
    ) -> Result<(), AuthError> {
        let mut user = self.existing_user(name)?;
        user.password_hash = match user.no_password {
            true => Secret::default(),
            false => password_hash.clone(),
        };
        self.put_user(user, effects);
        self.commit(effects);
        Ok(())
    }

    fn user_grant_role(
        &mut self,
        name: &str,
        role: &str,
        effects: &mut Effects,
    ) -> Result<(), AuthError> {
        let mut user = self.existing_user(name)?;
        if role != ROOT_ROLE && !self.roles.contains_key(role) {
            return Err(AuthError::RoleNotFound);
        }
        if user.roles.iter().any(|held| held == role) {
            return Ok(());
        }
        user.roles.push(role.to_owned());
        user.roles.sort();
        self.put_user(user, effects);
        self.commit(effects);
        Ok(())
    }

    fn user_revoke_role(
        &mut self,
        name: &str,
        role: &str,
        effects: &mut Effects,
    ) -> Result<(), AuthError> {
        if self.enabled && name == ROOT_USER && role == ROOT_ROLE {
            return Err(AuthError::InvalidManagement);
        }
        let mut user = self.existing_user(name)?;
        let before = user.roles.len();
        user.roles.retain(|held| held != role);
        if user.roles.len() == before {
            return Err(AuthError::RoleNotGranted);
        }
        self.put_user(user, effects);
        self.commit(effects);
        Ok(())
    }

    fn role_add(&mut self, name: &str, effects: &mut Effects) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleExists);
        }
        let role = Role {
            name: name.to_owned(),
            permissions: Vec::new(),
        };
        self.put_role(role, effects);
        self.commit(effects);
        Ok(())
    }

    fn role_delete(&mut self, name: &str, effects: &mut Effects) -> Result<(), AuthError> {
        if self.enabled && name == ROOT_ROLE {
            return Err(AuthError::InvalidManagement);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        effects.changes.push(Change::DeleteRole(name.to_owned()));
        let holders = self.users.values();
        let holders = holders.filter(|user| user.roles.iter().any(|held| held == name));
        let holders: Vec<User> = holders.cloned().collect();
        for mut user in holders {
            user.roles.retain(|held| held != name);
            self.put_user(user, effects);
        }
        self.commit(effects);
        Ok(())
    }

    fn role_grant_permission(
        &mut self,
        name: &str,
        permission: &Permission,
        effects: &mut Effects,
    ) -> Result<(), AuthError> {
        if !permission.is_valid() {
            return Err(AuthError::InvalidManagement);
        }
        let mut role = self.existing_role(name)?;
        // As in etcd, only the first one of the key is changed by a grant of the same range; behind
        // others of its key, another is granted beside it.
        let first = role
            .permissions
            .partition_point(|held| held.key < permission.key);
        let same = |held: &&mut Permission| {
            held.key == permission.key && held.range_end == permission.range_end
        };
        match role.permissions.get_mut(first).filter(same) {
            Some(held) => held.allows = permission.allows,
            None => {
                // A copy: the request's bytes are a slice of a whole batch, which the role would
                // pin.
                role.permissions.push(Permission {
                    key: bytes::Bytes::copy_from_slice(&permission.key),
                    range_end: bytes::Bytes::copy_from_slice(&permission.range_end),
                    allows: permission.allows,
                });
                role.permissions.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        self.put_role(role, effects);
        self.commit(effects);
        Ok(())
    }

    fn role_revoke_permission(
        &mut self,
        name: &str,
        key: &[u8],
        range_end: &[u8],
        effects: &mut Effects,
    ) -> Result<(), AuthError> {
        let mut role = self.existing_role(name)?;
        let before = role.permissions.len();
        role.permissions
            .retain(|held| held.key != key || held.range_end != range_end);
        if role.permissions.len() == before {
            return Err(AuthError::PermissionNotGranted);
        }
        self.put_role(role, effects);
        self.commit(effects);
        Ok(())
    }

    fn existing_user(&self, name: &str) -> Result<User, AuthError> {
        self.users.get(name).cloned().ok_or(AuthError::UserNotFound)
    }

    fn existing_role(&self, name: &str) -> Result<Role, AuthError> {
        self.roles.get(name).cloned().ok_or(AuthError::RoleNotFound)
    }

    fn put_user(&mut self, user: User, effects: &mut Effects) {
        effects.changes.push(Change::PutUser(user.clone()));
        self.users.insert(user.name.clone(), user);
    }

    fn put_role(&mut self, role: Role, effects: &mut Effects) {
        effects.changes.push(Change::PutRole(role.clone()));
        self.roles.insert(role.name.clone(), role);
    }

    /// A change was made: the next revision, and what users may do by it.
    fn commit(&mut self, effects: &mut Effects) {
        self.revision += 1;
        self.save_switch(effects);
        self.merge();
    }

    fn save_switch(&self, effects: &mut Effects) {
        effects.changes.push(Change::SetAuth {
            enabled: self.enabled,
            revision: self.revision,
        });
    }
}
