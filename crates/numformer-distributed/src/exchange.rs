//! Results that ranks share.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::communicator::Communicator;
use crate::communicator_error::CommunicatorError;

/// The results of all ranks, in their order, on each of them; or the first error. A collective call: a rank that failed
/// makes it, too, and tells the others so.
///
/// # Errors
/// The error of this rank, if it failed; else [`CommunicatorError::OtherRank`] with that of the first rank that did; when
/// another rank does not take part.
///
/// # Examples
/// ```
/// use numformer_distributed::{CommunicatorError, Solo, exchange};
///
/// let squares: Result<Vec<u32>, CommunicatorError> = Ok(vec![0, 1, 4]);
/// assert_eq!(exchange(squares, &Solo)?, [0, 1, 4]);
/// # Ok::<(), CommunicatorError>(())
/// ```
pub fn exchange<T, E>(own: Result<Vec<T>, E>, ranks: &(impl Communicator + ?Sized)) -> Result<Vec<T>, E>
where
    T: Serialize + DeserializeOwned,
    E: Display + From<CommunicatorError>,
{
    if ranks.size() == 1 {
        return own;
    }
    let unreadable =
        |rank| move |error: postcard::Error| CommunicatorError::Unreadable { rank, reason: error.to_string() };
    let sent = own.as_ref().map_err(ToString::to_string);
    // The others wait, even if there is nothing to send.
    let written = postcard::to_stdvec(&sent);
    let all = ranks.gather(written.as_deref().unwrap_or_default())?;
    written.map_err(unreadable(ranks.rank()))?;
    // Its own error has more to say than what the others are told of it.
    own?;
    let mut results = Vec::new();
    for (rank, bytes) in all.iter().enumerate() {
        match postcard::from_bytes::<Result<Vec<T>, String>>(bytes).map_err(unreadable(rank))? {
            Ok(part) => results.extend(part),
            Err(message) => return Err(CommunicatorError::OtherRank { rank, message }.into()),
        }
    }
    Ok(results)
}
