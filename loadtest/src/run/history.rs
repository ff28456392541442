//! `run history`: pages of message history over HTTP, the newest (hot) and those at any depth (cold). Owns the histories it
//! reads and what each page must hold; the open loop is [`requests`]'s.

use crate::api::{self, Api, PAGE};
use crate::cli::HistoryArgs;
use crate::error::LoadError;
use crate::message::mix;
use crate::observer::say;
use crate::report::Report;
use crate::requests::{self, Question, Questions, RequestPlan};
use crate::tokens::User;

use super::gochat::users_of;
use super::plan;
use super::storm::report_requests;

const PARTS: &[&str] = &["hot", "cold"];

/// One conversation with everything that stands in it.
#[derive(Debug)]
struct Told {
    id: String,
    token: String,
    /// Its numbers, oldest first.
    seqs: Vec<u32>,
}

/// What is asked: pages of these conversations.
#[derive(Debug)]
struct Pages {
    told: Vec<Told>,
    cold_percent: u64,
    seed: u64,
}

/// One page that is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    conversation: usize,
    /// How many of the oldest messages lie before the cursor; `None`: the newest page.
    before: Option<usize>,
}

impl Pages {
    fn wanted(&self, number: u64) -> Wanted {
        let chance = mix(self.seed ^ number);
        let conversation = (mix(chance) % self.told.len().max(1) as u64) as usize;
        let cold = chance % 100 < self.cold_percent;
        let depth = self.told.get(conversation).map_or(0, |told| told.seqs.len());
        let before = cold.then(|| (mix(chance ^ 1) % depth.max(1) as u64) as usize);
        Wanted { conversation, before }
    }
}

impl Questions for Pages {
    fn parts(&self) -> &'static [&'static str] {
        PARTS
    }

    fn question(&self, number: u64) -> Question {
        let wanted = self.wanted(number);
        let told = self.told.get(wanted.conversation);
        let cursor = told.zip(wanted.before).and_then(|(told, before)| told.seqs.get(before));
        let id = told.map_or("", |told| told.id.as_str());
        let mut path = format!("/api/conversations/{id}/messages?limit={PAGE}");
        if let Some(cursor) = cursor {
            path.push_str(&format!("&cursor={cursor}"));
        }
        let part = usize::from(wanted.before.is_some());
        Question { part, method: "GET", path, token: told.map(|told| told.token.clone()), body: None }
    }

    fn check(&self, number: u64, body: &[u8]) -> Result<(), String> {
        let wanted = self.wanted(number);
        let Some(told) = self.told.get(wanted.conversation) else { return Ok(()) };
        let page = api::page(body).ok_or("an answer that is no page")?;
        let older = told.seqs.get(..wanted.before.unwrap_or(told.seqs.len())).unwrap_or_default();
        let from = older.len().saturating_sub(PAGE);
        let expected = older.get(from..).unwrap_or_default().iter().rev();
        if !page.messages.iter().map(|message| &message.seq_id).eq(expected) {
            return Err("a page with a gap, out of order or of other messages".to_owned());
        }
        if page.has_more != (from > 0) {
            return Err("a page that says wrongly whether there is more".to_owned());
        }
        Ok(())
    }
}

/// Reads history at a rate.
pub(super) fn history(args: &HistoryArgs) -> Result<Report, LoadError> {
    let http = &args.http;
    let plan = plan(&args.common, http.connections, http.warmup, http.measured())?;
    let users = users_of(&args.users, &plan, args.conversations.saturating_mul(2))?;
    say(&format!("filling {} conversations up to {} messages", args.conversations, args.messages));
    let chats = api::open_chats(&plan.url, &users)?;
    let (pairs, _) = users.as_chunks::<2>();
    let fill = |api: &mut Api, at: usize| match (pairs.get(at), chats.get(at)) {
        (Some([user, _]), Some(chat)) => told(api, user, chat, plan.seed as u32, args.messages as usize),
        _ => Err(LoadError::Arguments("a conversation without its users".to_owned())),
    };
    let told = api::in_parallel(chats.len(), || Api::new(&plan.url), fill)?;
    let pages = Pages { told, cold_percent: args.cold_percent.into(), seed: plan.seed };
    let requests = RequestPlan {
        url: plan.url.clone(),
        connections: http.connections,
        profile: http.profile(),
        warmup: http.warmup,
        duration: http.measured(),
    };
    report_requests("history", &plan, &requests, || requests::run(&requests, &pages), PARTS)
}

/// Writes what a conversation lacks and reads what then stands in it.
fn told(api: &mut Api, user: &User, chat: &str, run: u32, messages: usize) -> Result<Told, LoadError> {
    let mut seqs = read(api, user, chat)?;
    if seqs.len() < messages {
        for at in seqs.len()..messages {
            api.send(user, chat, &format!("lt{run:08x}h{at}"), "history of a load run")?;
        }
        seqs = read(api, user, chat)?;
    }
    if seqs.len() < messages {
        return Err(LoadError::Arguments(format!(
            "history of {chat} shows {} messages after {messages} were acknowledged: check it with `audit`",
            seqs.len()
        )));
    }
    Ok(Told { id: chat.to_owned(), token: user.access_token.clone(), seqs })
}

/// All numbers of a conversation, oldest first.
fn read(api: &mut Api, user: &User, chat: &str) -> Result<Vec<u32>, LoadError> {
    let mut seqs: Vec<u32> = Vec::new();
    loop {
        let page = api.history(&user.access_token, chat, seqs.last().copied().unwrap_or(0))?;
        seqs.extend(page.messages.iter().map(|message| message.seq_id));
        if !page.has_more || page.messages.is_empty() {
            break;
        }
    }
    match seqs.is_sorted_by(|a, b| a < b) {
        true => Ok(seqs),
        false => Err(LoadError::Arguments(format!("history of {chat} read forwards is out of order or repeats"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn page(seqs: impl IntoIterator<Item = u32>, more: bool) -> Vec<u8> {
        let message = |seq: u32| json!({"id": "1", "seqId": seq});
        let messages: Vec<_> = seqs.into_iter().map(message).collect();
        json!({"data": {"messages": messages, "hasMore": more}}).to_string().into_bytes()
    }

    #[test]
    fn a_page_must_hold_exactly_what_stands_before_its_cursor() {
        let told = Told { id: "c".to_owned(), token: "t".to_owned(), seqs: (1..=250).collect() };
        let mut pages = Pages { told: vec![told], cold_percent: 0, seed: 7 };
        assert!(!pages.question(0).path.contains("cursor"));
        assert_eq!(pages.check(0, &page((151..=250).rev(), true)), Ok(()));
        assert!(pages.check(0, &page((151..=250).rev(), false)).is_err(), "no more");
        assert!(pages.check(0, &page(151..=250, true)).is_err(), "oldest first");
        assert!(pages.check(0, &page((150..=250).rev().filter(|seq| *seq != 200), true)).is_err(), "a gap");
        assert!(pages.check(0, b"{}").is_err());
        pages.cold_percent = 100;
        let before = pages.wanted(3).before.unwrap();
        assert!(pages.question(3).path.ends_with(&format!("cursor={}", before + 1)));
        let from = before.saturating_sub(PAGE);
        let good = page((from as u32 + 1..=before as u32).rev(), from > 0);
        assert_eq!(pages.check(3, &good), Ok(()));
    }
}
