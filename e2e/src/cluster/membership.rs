//! Members come and go, as an administrator has them.

use engram_proto::etcdserverpb::{
    Member as ListedMember, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest,
};
use std::time::Duration;

use super::Cluster;
use crate::client::Client;
use crate::users::Caller;

/// How long the cluster may go on refusing a change of members: etcd wants every voter to have been
/// connected for five seconds, and 90 % of the log at a learner that is promoted.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

impl Cluster {
    /// Has this user ask for the members and their changes from here on, where there are users.
    pub fn administer_as(&mut self, who: Caller) {
        self.administrator = Some(who);
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        match &self.administrator {
            Some(who) => who.request(message),
            None => tonic::Request::new(message),
        }
    }

    /// The members as the one at `asked` lists them (linearizably).
    ///
    /// # Panics
    /// If it does not answer.
    pub fn member_list(&self, asked: usize) -> Vec<ListedMember> {
        let request = MemberListRequest { linearizable: true };
        let answer = self.runtime().block_on(async {
            let mut client = Client::lazy(self.server(asked).address());
            client.cluster.member_list(self.request(request)).await
        });
        match answer {
            Ok(answer) => answer.into_inner().members,
            Err(status) => {
                let name = self.server(asked).name();
                self.fail(&format!("{name} does not list the members: {status}"))
            }
        }
    }

    /// Removes the member with `id`, asked of the one at `asked`.
    ///
    /// # Panics
    /// If the cluster goes on refusing it.
    pub fn remove_member(&self, asked: usize, id: u64) {
        let request = MemberRemoveRequest { id };
        self.change(asked, &format!("removes member {id:x}"), async |client| {
            let request = self.request(request);
            client.cluster.member_remove(request).await.map(drop)
        });
    }

    /// Adds one more member and starts it: as a learner, or with a vote at once. Asked of the one at
    /// `asked`. Returns its place. It is not waited for.
    ///
    /// # Panics
    /// If the cluster goes on refusing it.
    pub fn add_member(&mut self, asked: usize, is_learner: bool) -> usize {
        let place = self.prepare_member();
        self.announce(asked, place, is_learner);
        self.launch(place);
        place
    }

    /// Adds the member at `place` again, under a new id, and starts it on an empty directory.
    ///
    /// # Panics
    /// If it still runs, or the cluster goes on refusing it.
    pub fn add_again(&mut self, asked: usize, place: usize) {
        self.announce(asked, place, false);
        self.launch(place);
    }

    /// Gives the learner at `place` a vote; waits until it has caught up enough.
    ///
    /// # Panics
    /// If the cluster goes on refusing it.
    pub fn promote(&self, asked: usize, id: u64) {
        let request = MemberPromoteRequest { id };
        self.change(asked, &format!("promotes member {id:x}"), async |client| {
            let request = self.request(request);
            client.cluster.member_promote(request).await.map(drop)
        });
    }

    fn announce(&mut self, asked: usize, place: usize, is_learner: bool) {
        let request = MemberAddRequest {
            peer_ur_ls: vec![self.members[place].peer_url()],
            is_learner,
        };
        let name = self.server(place).name().to_owned();
        self.change(asked, &format!("adds member {name}"), async |client| {
            let request = self.request(request.clone());
            client.cluster.member_add(request).await.map(drop)
        });
        let listed = self.member_list(asked);
        self.expect_to_join(place, &listed);
    }

    /// Starts the member at `place` as one of those that are listed, on an empty directory.
    ///
    /// # Panics
    /// If it still runs.
    pub(super) fn join_existing(&mut self, place: usize, listed: &[ListedMember]) {
        self.expect_to_join(place, listed);
        self.launch(place);
    }

    /// As etcdctl prints it for the new member's flags: who has not started yet has no name.
    fn expect_to_join(&mut self, place: usize, listed: &[ListedMember]) {
        let name = self.server(place).name();
        let entries = listed.iter().map(|member| {
            let url = &member.peer_ur_ls[0];
            let known = match member.name.is_empty() {
                true => name,
                false => &member.name,
            };
            format!("{known}={url}")
        });
        let everybody = entries.collect::<Vec<_>>().join(",");
        self.members[place].initial = Some(("existing", everybody));
    }

    /// Asks until the change is made.
    fn change(
        &self,
        asked: usize,
        what: &str,
        mut request: impl AsyncFnMut(&mut Client) -> Result<(), tonic::Status>,
    ) {
        let mut refusal = String::new();
        let name = self.server(asked).name();
        let address = self.server(asked).address();
        let deadline = std::time::Instant::now() + CHANGE_LIMIT;
        while std::time::Instant::now() < deadline {
            let answer = self.runtime().block_on(async {
                let mut client = Client::lazy(address);
                request(&mut client).await
            });
            match answer {
                Ok(()) => return,
                Err(status) => refusal = status.to_string(),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.fail(&format!(
            "{name} {what}: refused for {CHANGE_LIMIT:?}, at last with {refusal}"
        ));
    }
}
