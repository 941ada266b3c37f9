//! The question what a member has promised, asked again and again over one stream.

use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::CallError;
use super::message::{PromisedRequest, PromisedResponse};

/// A stream over which one question at a time is asked. To give up waiting is to drop it.
pub struct Promises {
    questions: mpsc::Sender<PromisedRequest>,
    answers: Streaming<PromisedResponse>,
}

/// The questions, as the connection reads them, and where they are asked.
pub(super) fn questions() -> (
    mpsc::Sender<PromisedRequest>,
    impl Stream<Item = PromisedRequest> + Send + 'static,
) {
    let (sender, mut receiver) = mpsc::channel(1);
    let questions = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, questions)
}

impl Promises {
    pub(super) fn new(
        questions: mpsc::Sender<PromisedRequest>,
        answers: Streaming<PromisedResponse>,
    ) -> Promises {
        Promises { questions, answers }
    }

    /// Asks, and waits for the answer, for as long as the caller does. The stream is handed back, to be asked
    /// again.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn ask(mut self) -> Result<(PromisedResponse, Promises), CallError> {
        let broken = || CallError::Broken("the stream of promises ended".into());
        let asked = self.questions.send(PromisedRequest {}).await;
        asked.map_err(|_| broken())?;
        let answer = self.answers.message().await;
        let answer = answer.map_err(|status| CallError::from_status(&status))?;
        Ok((answer.ok_or_else(broken)?, self))
    }
}
