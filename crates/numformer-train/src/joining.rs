//! How the ranks of a run begin in the same state.

use numformer_distributed::{Communicator, CommunicatorError};
use numformer_store::NamedTensors;
use serde::{Deserialize, Serialize};

use crate::run_progress::RunProgress;
use crate::snapshot::Snapshot;
use crate::train_error::TrainError;
use crate::trainer::Trainer;

impl Trainer {
    /// Sends the state of rank 0 to the other ranks: they go on, or back after a divergence, from the same snapshots. So
    /// only rank 0 needs a store; the others are told its interval by [`taking_snapshots`](Self::taking_snapshots), since
    /// all numbers of the run must be the same. A collective call, before [`run`](Self::run).
    ///
    /// # Errors
    /// When a number of the run differs between ranks, another rank does not answer, or its weights are not those of this
    /// learner.
    pub fn joining(mut self, ranks: &dyn Communicator) -> Result<Self, TrainError> {
        ranks.check_same(&[("numbers of the run", format!("{:?}", self.settings))])?;
        let mut bytes = Vec::new();
        if ranks.rank() == 0 {
            let state = [Some(self.snapshot()), self.way_back.clone(), self.next_way_back.clone()];
            bytes = postcard::to_stdvec(&state.map(|snapshot| snapshot.map(Sent::from))).map_err(TrainError::other)?;
        }
        ranks.broadcast(&mut bytes, 0)?;
        if ranks.rank() == 0 {
            return Ok(self);
        }
        let unreadable = |reason: String| CommunicatorError::Unreadable { rank: 0, reason };
        let state: [Option<Sent>; 3] = postcard::from_bytes(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let read = |sent: Option<Sent>| sent.map(Sent::snapshot).transpose();
        let [now, way_back, next_way_back] = state.map(read);
        if let Some(now) = now.map_err(unreadable)? {
            self.restore(&now)?;
        }
        (self.way_back, self.next_way_back) = (way_back.map_err(unreadable)?, next_way_back.map_err(unreadable)?);
        Ok(self)
    }
}

/// A snapshot as ranks send it.
#[derive(Serialize, Deserialize)]
struct Sent {
    step: u64,
    /// In JSON, because it leaves out what has not happened.
    progress: String,
    weights: NamedTensors,
    memory: NamedTensors,
}

impl From<Snapshot> for Sent {
    fn from(Snapshot { step, progress, weights, memory }: Snapshot) -> Self {
        let progress = serde_json::to_string(&progress).expect("progress is plain data");
        Self { step, progress, weights, memory }
    }
}

impl Sent {
    fn snapshot(self) -> Result<Snapshot, String> {
        let Self { step, progress, weights, memory } = self;
        let progress: RunProgress = serde_json::from_str(&progress).map_err(|error| error.to_string())?;
        Ok(Snapshot { step, progress, weights, memory })
    }
}
