//! `ledger token`: read-only tokens for people and dashboards. Only a token's digest is kept.

use super::replay::each;
use crate::args::RootKey;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BOLD, DIM, paint};
use crate::times;
use clap::{Args, Subcommand};
use ledger::core::kinds::Credential;
use ledger_server::client::Api;
use ledger_server::http::wire::ReceiptsQuery;
use serde::Serialize;
use serde_json::{Value, json};

/// What `token` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum TokenCommand {
    /// Make one; its secret is shown once
    #[command(after_help = "Examples:\n  ledger token new --name dashboard --for 30d")]
    New {
        /// What it is called
        #[arg(long)]
        name: String,
        /// How long it is valid
        #[arg(long = "for", value_name = "TIME", default_value = "90d")]
        lifetime: String,
        #[command(flatten)]
        root: RootKey,
    },
    /// List them
    List,
    /// End one now
    #[command(after_help = "Examples:\n  ledger token revoke dashboard --reason 'screen was sold'")]
    Revoke {
        /// Its name, or the beginning of its digest
        token: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        root: RootKey,
    },
}

/// A token as the order tells it.
#[derive(Debug, Clone, Serialize)]
struct Token {
    name: String,
    digest: String,
    until: Option<String>,
    granted: String,
    state: &'static str,
}

/// Makes, lists or revokes.
pub(crate) async fn run(context: &Context, args: &TokenArgs) -> Result<Exit, CliError> {
    match &args.command {
        TokenCommand::New { name, lifetime, root } => new(context, name, lifetime, root).await,
        TokenCommand::List => list(context).await,
        TokenCommand::Revoke { token, reason, root } => revoke(context, token, reason, root).await,
    }
}

async fn new(context: &Context, name: &str, lifetime: &str, root: &RootKey) -> Result<Exit, CliError> {
    let lifetime = times::parse_span(lifetime)?;
    let until = context.now.timestamp().checked_add(lifetime);
    let until = until
        .map_err(|e| CliError::new("time.malformed", e.to_string(), ""))?
        .as_microsecond();
    let root = context.root_key(root)?;
    let store = context.store().await?;
    let (said, secret) = ledger_server::setup::token(&root, store.fleet().await?, name, Some(until))?;
    let appended = store.api.append_signed(&said).await?.item;
    let until = times::rfc3339(until);
    let result = json!({"name": name, "secret": secret, "until": until, "receipt": appended.receipt.id});
    context.output.result(&result, &[], || {
        context.output.talk(paint(
            DIM,
            format_args!("read-only until {until}; shown this once:"),
        ));
        secret.clone()
    })?;
    Ok(FINE)
}

async fn list(context: &Context) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let tokens = tokens(&store.api, context).await?;
    context.output.result(&json!({"tokens": tokens}), &[], || {
        let mut table = output::table(&["name", "state", "until", "digest"]);
        for token in &tokens {
            let until = token.until.as_deref().unwrap_or("-");
            table.add_row([
                &token.name,
                token.state,
                until,
                token.digest.get(..16).unwrap_or(&token.digest),
            ]);
        }
        if tokens.is_empty() {
            "no tokens".to_owned()
        } else {
            table.to_string()
        }
    })?;
    Ok(FINE)
}

async fn revoke(context: &Context, token: &str, reason: &str, root: &RootKey) -> Result<Exit, CliError> {
    let root = context.root_key(root)?;
    let store = context.store().await?;
    let known = tokens(&store.api, context).await?;
    let named: Vec<&Token> = known
        .iter()
        .filter(|t| {
            t.state == "valid" && (t.name == token || (token.len() >= 6 && t.digest.starts_with(token)))
        })
        .collect();
    let [one] = named.as_slice() else {
        let why = if named.is_empty() {
            "names no valid token"
        } else {
            "names several tokens; give the digest"
        };
        return Err(CliError::new(
            "input.token",
            format!("{token:?} {why}"),
            "`ledger token list` shows them",
        ));
    };
    let credential: Credential = serde_json::from_value(json!({"token": one.digest}))
        .map_err(|e| CliError::new("client.malformed", format!("the token's digest: {e}"), ""))?;
    let said = ledger_server::setup::revoke(&root, store.fleet().await?, credential, reason)?;
    let appended = store.api.append_signed(&said).await?.item;
    context.output.result(&appended, &[], || {
        format!("{} is revoked", paint(BOLD, &one.name))
    })?;
    Ok(FINE)
}

/// The tokens, as the receipts of the order tell of them.
async fn tokens(api: &Api, context: &Context) -> Result<Vec<Token>, CliError> {
    let now = context.now.timestamp().as_microsecond();
    let query = ReceiptsQuery {
        kind: vec!["key.granted".to_owned(), "key.revoked".to_owned()],
        limit: Some(1000),
        ..ReceiptsQuery::default()
    };
    let mut tokens: Vec<Token> = Vec::new();
    each(api, query, |receipt| {
        let Some(digest) = receipt
            .detail
            .pointer("/credential/token")
            .and_then(Value::as_str)
        else {
            return Ok(true);
        };
        if receipt.kind == "key.revoked" {
            tokens
                .iter_mut()
                .filter(|t| t.digest == digest)
                .for_each(|t| t.state = "revoked");
        } else {
            let until = receipt.detail.get("until").and_then(Value::as_i64);
            tokens.push(Token {
                name: receipt
                    .detail
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                digest: digest.to_owned(),
                until: until.map(times::rfc3339),
                granted: receipt.id.clone(),
                state: if until.is_some_and(|until| until <= now) {
                    "expired"
                } else {
                    "valid"
                },
            });
        }
        Ok(true)
    })
    .await?;
    Ok(tokens)
}
