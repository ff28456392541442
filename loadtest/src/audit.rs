//! The audit after a run: every acknowledged (id, seq) stands in history exactly once, and numbers never repeat.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::thread;
use std::time::Duration;

use crate::acked::{self, AckedMessage};
use crate::api::{self, Api, Stored};
use crate::cli::AuditArgs;
use crate::error::LoadError;
use crate::tokens;
use crate::url::Url;

/// How often a history that calls itself incomplete is read again, and the pause before.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// Messages named in the findings; the rest are counted.
const EXAMPLES_MAX: usize = 20;

/// What an audit found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Conversations read.
    pub conversations: usize,
    /// Acknowledged messages looked for.
    pub acked: u64,
    /// Messages in those histories.
    pub stored: u64,
    /// Acknowledged and not in history.
    pub missing: u64,
    /// In history under another number than acknowledged.
    pub renumbered: u64,
    /// Messages, or client_msg_ids, that stand in history more than once.
    pub repeated: u64,
    /// Numbers that do not increase along a history.
    pub unordered: u64,
    /// Histories that never called themselves complete.
    pub incomplete: u64,
    /// One line each for the first of them.
    pub examples: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.missing + self.renumbered + self.repeated + self.unordered + self.incomplete == 0
    }

    fn wrong(&mut self, count: fn(&mut Findings) -> &mut u64, example: impl FnOnce() -> String) {
        *count(self) += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }

    fn add(&mut self, other: Findings) {
        self.conversations += other.conversations;
        self.acked += other.acked;
        self.stored += other.stored;
        self.missing += other.missing;
        self.renumbered += other.renumbered;
        self.repeated += other.repeated;
        self.unordered += other.unordered;
        self.incomplete += other.incomplete;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_clean() { "ok" } else { "FAILED" };
        writeln!(
            f,
            "{verdict}: {} acknowledged messages in {} conversations, {} stored",
            self.acked, self.conversations, self.stored
        )?;
        writeln!(
            f,
            "{} missing, {} renumbered, {} repeated, {} out of order, {} histories incomplete",
            self.missing, self.renumbered, self.repeated, self.unordered, self.incomplete
        )?;
        self.examples.iter().try_for_each(|example| writeln!(f, "  - {example}"))
    }
}

/// Reads the files and the histories and compares them.
///
/// # Errors
/// Files or histories that cannot be read. What is wrong with the messages is in the findings.
pub fn run(args: &AuditArgs) -> Result<Findings, LoadError> {
    let url = Url::parse(&args.url)?;
    let tokens: HashMap<_, _> =
        tokens::read_all(&args.tokens)?.into_iter().map(|user| (user.id, user.access_token)).collect();
    let mut chats: BTreeMap<_, Vec<AckedMessage<'static>>> = BTreeMap::new();
    for message in acked::read(&args.acked)? {
        chats.entry(message.conversation.clone().into_owned()).or_default().push(message);
    }
    let chats: Vec<_> = chats.into_iter().collect();
    let compare_one = |api: &mut Api, at: usize| {
        let Some((conversation, messages)) = chats.get(at) else { return Ok(Findings::default()) };
        let token = messages.iter().find_map(|message| tokens.get(message.user.as_ref())).ok_or_else(|| {
            let why = format!("it has no token of a user who wrote in conversation {conversation}");
            LoadError::File { path: args.tokens.clone(), why }
        })?;
        let (stored, complete) = history(api, token, conversation)?;
        Ok(compare(conversation, messages, &stored, complete))
    };
    let mut findings = Findings::default();
    api::in_parallel(chats.len(), || Api::new(&url), compare_one)?.into_iter().for_each(|one| findings.add(one));
    Ok(findings)
}

/// A whole history, and whether it called itself complete (or said nothing of it).
fn history(api: &mut Api, token: &str, conversation: &str) -> Result<(Vec<Stored>, bool), LoadError> {
    let (mut stored, mut attempts): (Vec<Stored>, _) = (Vec::new(), 0);
    loop {
        let after_seq = stored.last().map_or(0, |message| message.seq_id);
        let page = api.history(token, conversation, after_seq)?;
        let advanced = page.messages.last().is_some_and(|message| message.seq_id > after_seq);
        stored.extend(page.messages);
        if page.has_more && advanced {
            continue;
        }
        attempts += 1;
        if page.complete != Some(false) || attempts == ATTEMPTS {
            return Ok((stored, page.complete != Some(false)));
        }
        thread::sleep(PAUSE);
    }
}

fn compare(conversation: &str, acked: &[AckedMessage<'_>], stored: &[Stored], complete: bool) -> Findings {
    let mut findings = Findings { conversations: 1, stored: stored.len() as u64, ..Findings::default() };
    if !complete {
        findings.wrong(|it| &mut it.incomplete, || format!("{conversation}: the history stays incomplete"));
    }
    let (mut by_id, mut client_ids) = (HashMap::new(), HashMap::new());
    let mut last = 0;
    for message in stored {
        if message.seq_id <= last {
            findings.wrong(|it| &mut it.unordered, || format!("{conversation}: seq {} follows {last}", message.seq_id));
        }
        last = message.seq_id;
        let again = by_id.insert(message.id.as_str(), message.seq_id).is_some();
        let client_id = message.client_msg_id.as_str();
        if again || (!client_id.is_empty() && client_ids.insert(client_id, ()).is_some()) {
            findings.wrong(
                |it| &mut it.repeated,
                || format!("{conversation}: message {} ({client_id}) stands twice", message.id),
            );
        }
    }
    for message in final_acks(acked) {
        findings.acked += 1;
        let AckedMessage { id, seq, client_msg_id, .. } = message;
        match by_id.get(id.as_ref()) {
            Some(stored_seq) if stored_seq == seq => {}
            Some(stored_seq) => findings.wrong(
                |it| &mut it.renumbered,
                || format!("{conversation}: message {id} was acknowledged as {seq} and is stored as {stored_seq}"),
            ),
            None => findings.wrong(
                |it| &mut it.missing,
                || format!("{conversation}: message {id} (seq {seq}, {client_msg_id}) is not in history"),
            ),
        }
    }
    findings
}

/// The acknowledgement that counts for each client_msg_id: a corrected one, else the first.
fn final_acks<'a, 'b>(acked: &'a [AckedMessage<'b>]) -> impl Iterator<Item = &'a AckedMessage<'b>> {
    let mut last: BTreeMap<&str, &AckedMessage<'_>> = BTreeMap::new();
    for message in acked {
        let entry = last.entry(message.client_msg_id.as_ref()).or_insert(message);
        if message.corrected {
            *entry = message;
        }
    }
    last.into_values()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(id: &str, seq: u32, client_msg_id: &str, corrected: bool) -> AckedMessage<'static> {
        let own = |text: &str| text.to_owned().into();
        AckedMessage {
            id: own(id),
            seq,
            client_msg_id: own(client_msg_id),
            conversation: own("c"),
            user: own("u"),
            corrected,
        }
    }

    fn row(id: &str, seq_id: u32, client_msg_id: &str) -> Stored {
        Stored { id: id.to_owned(), seq_id, client_msg_id: client_msg_id.to_owned() }
    }

    #[test]
    fn what_stands_in_history_once_is_clean() {
        let acked = [ack("9", 8, "b", false), ack("2", 2, "b", true), ack("1", 1, "a", false)];
        let stored = [row("1", 1, "a"), row("2", 2, "b"), row("5", 9, "of somebody else")];
        let findings = compare("c", &acked, &stored, true);
        assert!(findings.is_clean(), "{findings}");
        assert_eq!((findings.acked, findings.stored), (2, 3));
    }

    #[test]
    fn each_fault_is_named() {
        let acked = [ack("1", 1, "a", false), ack("2", 2, "b", false), ack("3", 3, "d", false)];
        let stored = [row("1", 1, "a"), row("2", 5, "b"), row("1", 6, "a2"), row("7", 4, "b")];
        let wanted = Findings {
            conversations: 1,
            acked: 3,
            stored: 4,
            missing: 1,
            renumbered: 2,
            repeated: 2,
            unordered: 1,
            incomplete: 1,
            examples: Vec::new(),
        };
        let mut findings = compare("c", &acked, &stored, false);
        assert_eq!(std::mem::take(&mut findings.examples).len(), 7);
        assert_eq!(findings, wanted);
    }
}
