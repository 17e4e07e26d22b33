//! `ledger check`: one proof, offline, with pinned keys only. Needs no store, no daemon and no network.

use super::pins;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{DIFFERENCE, Exit, FINE};
use crate::output::{BAD, GOOD, count, paint, span_ms};
use clap::Args;
use data_encoding::BASE64;
use ledger::core::cosignature::{Cosignature, witnesses};
use ledger::core::note::VerifierKey;
use ledger::core::proof::{PROOF_BYTES_MAX, Proof, ProofError, Proven, check};
use ledger::evidence::{ForkEvidence, ForkKind};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What `check` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger check went-live.tlog-proof --key studio.keys
  ledger check went-live.tlog-proof --key studio.keys --quorum 2
  ledger check went-live.tlog-proof --key 'ledger.log/v1/5f0c…+1b9c1c5e+AW…' --payload-out said.json")]
pub(crate) struct CheckArgs {
    /// The proof, or the evidence of a fork
    file: PathBuf,
    /// A key that you trust, as `ledger keys` prints it, or a file of such lines; repeatable
    #[arg(long = "key", value_name = "KEY|FILE", required = true)]
    keys: Vec<String>,
    /// Fail unless so many of the witnesses among these keys cosigned the checkpoint
    #[arg(long, value_name = "N", default_value_t = 0)]
    quorum: usize,
    /// Write the payload that is proven to this file; must not exist
    #[arg(long, value_name = "FILE")]
    payload_out: Option<PathBuf>,
}

/// What is proven, for programs.
#[derive(Serialize)]
struct Checked {
    log: String,
    machine: String,
    stream: String,
    seq: u64,
    tree_size: u64,
    root: String,
    id: String,
    kind: String,
    subject: String,
    author: String,
    /// Whether the machine itself says it; otherwise the author signed it with a key of its own.
    by_machine: bool,
    authored_at_us: i64,
    sealed_unix_ms: u64,
    /// `none`, `present`, or `absent` when the proof does not carry it.
    payload: &'static str,
    media: Option<String>,
    /// The payload in base64.
    payload_base64: Option<String>,
    /// Which of the pinned witnesses cosigned the checkpoint.
    cosigned: Vec<Cosigned>,
}

/// A witness that cosigned.
#[derive(Serialize)]
struct Cosigned {
    witness: String,
    unix_s: u64,
}

/// Checks.
pub(crate) fn run(context: &Context, args: &CheckArgs) -> Result<Exit, CliError> {
    let pinned = pins::read(&args.keys)?;
    let text = read(&args.file)?;
    if let Some(text) = text.as_deref().filter(|text| ForkEvidence::is_one(text)) {
        return check_fork(context, text, &pinned);
    }
    let checked = text.ok_or(ProofError::Malformed("a proof is UTF-8 text of at most 512 KiB"));
    let checked = checked.and_then(|text| {
        let proven = check(&text, &pinned)?;
        let checkpoint = Proof::parse(&text)?.checkpoint;
        Ok((proven, witnesses(&checkpoint, &pinned).map_err(ProofError::Note)?))
    });
    let (proven, seen) = match checked {
        Ok(proven) => proven,
        Err(error) => {
            // Whatever is wrong with it, it proves nothing: one status for that.
            let what_to_do = "it proves nothing; ask for it again, and compare the key with its owner";
            let failed = CliError::new(error.code(), error.to_string(), what_to_do);
            context.output.failure(&failed);
            return Ok(DIFFERENCE);
        }
    };
    if seen.len() < args.quorum {
        let failed = CliError::new(
            "proof.quorum",
            format!(
                "{} of the witnesses among these keys cosigned the checkpoint, {} are demanded",
                seen.len(),
                args.quorum
            ),
            "ask for the proof again when more have cosigned, or pin the keys of more witnesses (`ledger keys`)",
        );
        context.output.failure(&failed);
        return Ok(DIFFERENCE);
    }
    if let Some(path) = &args.payload_out {
        write_payload(path, &proven)?;
    }
    let checked = describe(&proven, seen);
    context.output.result(&checked, &[], || tell(&checked))?;
    Ok(FINE)
}

/// What a fork's evidence proves, for programs.
#[derive(Serialize)]
struct Forked {
    fork: bool,
    /// `records` or `roots`: what contradicts each other.
    by: &'static str,
    log: String,
    machine: String,
    stream: String,
    seq: u64,
}

fn check_fork(context: &Context, text: &str, pinned: &[VerifierKey]) -> Result<Exit, CliError> {
    let checked = ForkEvidence::parse(text).and_then(|evidence| evidence.check_pinned(pinned));
    let proven = match checked {
        Ok(proven) => proven,
        Err(error) => {
            let what_to_do = "it proves nothing; ask for it again, and compare the key with its owner";
            let failed = CliError::new(error.code(), error.to_string(), what_to_do);
            context.output.failure(&failed);
            return Ok(DIFFERENCE);
        }
    };
    let forked = Forked {
        fork: true,
        by: match proven.kind {
            ForkKind::Records => "records",
            ForkKind::Roots => "roots",
        },
        log: proven.log.to_hex(),
        machine: proven.machine.to_string(),
        stream: proven.stream.to_string(),
        seq: proven.seq,
    };
    context.output.result(&forked, &[], || {
        format!(
            "{}  {} {}\n  log      {}\n  seq      {}",
            paint(BAD.bold(), "a fork is proven"),
            forked.machine,
            proven.what(),
            forked.log,
            forked.seq
        )
    })?;
    Ok(FINE)
}

// None when it cannot be a proof.
fn read(path: &Path) -> Result<Option<String>, CliError> {
    let file = std::fs::File::open(path).map_err(|e| CliError::io("read", path, &e))?;
    let mut bytes = Vec::new();
    let bound = u64::try_from(PROOF_BYTES_MAX).expect("fits") + 1;
    file.take(bound)
        .read_to_end(&mut bytes)
        .map_err(|e| CliError::io("read", path, &e))?;
    Ok(String::from_utf8(bytes).ok())
}

fn write_payload(path: &Path, proven: &Proven) -> Result<(), CliError> {
    let Some(payload) = &proven.payload else {
        return Err(CliError::new(
            "input.no-payload",
            "the proof carries no payload",
            "leave out --payload-out",
        ));
    };
    use std::io::Write;
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(&payload.bytes))
        .map_err(|e| CliError::io("write", path, &e))
}

fn describe(proven: &Proven, seen: Vec<Cosignature>) -> Checked {
    let cosigned = seen.into_iter().map(|seen| Cosigned {
        witness: seen.witness,
        unix_s: seen.unix_s,
    });
    let (statement, seal) = (proven.record.statement(), proven.record.seal());
    let genesis = proven.chain.genesis();
    Checked {
        log: seal.log.to_hex(),
        machine: genesis.machine.to_string(),
        stream: genesis.stream.to_string(),
        seq: seal.seq,
        tree_size: proven.checkpoint.tree_size,
        root: proven.checkpoint.root.to_hex(),
        id: statement.id.to_string(),
        kind: statement.kind.to_string(),
        subject: statement.subject.to_string(),
        author: statement.author.to_hex(),
        by_machine: statement.author == proven.chain.machine_key(),
        authored_at_us: statement.authored_at,
        sealed_unix_ms: seal.time.unix_ms(),
        payload: match (&statement.payload, &proven.payload) {
            (None, _) => "none",
            (Some(_), None) => "absent",
            (Some(_), Some(_)) => "present",
        },
        media: statement
            .payload
            .as_ref()
            .map(|payload| payload.media.to_string()),
        payload_base64: proven
            .payload
            .as_ref()
            .map(|payload| BASE64.encode(&payload.bytes)),
        cosigned: cosigned.collect(),
    }
}

fn tell(checked: &Checked) -> String {
    let author = match checked.by_machine {
        true => "the machine itself".to_owned(),
        false => format!("key {}, by its own signature", checked.author),
    };
    let payload = match (checked.payload, &checked.media) {
        ("present", Some(media)) => format!("{media}, as committed to"),
        ("absent", _) => "not in the proof".to_owned(),
        _ => "none".to_owned(),
    };
    let time = |ms: u64| {
        let time = i64::try_from(ms).ok();
        let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.map_or_else(|| ms.to_string(), |time| time.to_string())
    };
    let sealed = time(checked.sealed_unix_ms);
    let cosigned: String = checked
        .cosigned
        .iter()
        .map(|seen| {
            let at = time(seen.unix_s.saturating_mul(1000));
            let age = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
            let age = span_ms(age.saturating_sub(seen.unix_s).saturating_mul(1000));
            format!("\n  cosigned by {} at {at}, {age} ago", seen.witness)
        })
        .collect();
    format!(
        "{}  receipt {}\n  kind     {}\n  subject  {}\n  author   {author}\n  sealed   {sealed}\n  payload  {payload}\n  \
         log      {} {}, seq {} of {}\n           {}\n  root     {}{cosigned}",
        paint(GOOD.bold(), "proven"),
        checked.id,
        checked.kind,
        checked.subject,
        checked.machine,
        checked.stream,
        checked.seq,
        count(checked.tree_size),
        checked.log,
        checked.root
    )
}
