//! What is said of a job, whether it is asked for once or comes by the clock.

use super::input;
use crate::error::CliError;
use clap::Args;
use serde_json::Value;

/// The flags that `submit` and `schedules add` have in common.
#[derive(Args, Debug, Clone)]
pub(crate) struct JobArgs {
    /// Its input: JSON, @file, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Higher is sooner
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) priority: Option<i16>,
    /// Only this machine may run it
    #[arg(long, value_name = "ID")]
    pub(crate) machine: Option<String>,
    /// Only machines whose handler has this label may run it; repeatable
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// How many attempts it may have
    #[arg(long, value_name = "N")]
    pub(crate) attempts: Option<u16>,
    /// At most one unfinished job has this key
    #[arg(long, visible_alias = "unique", value_name = "KEY")]
    pub(crate) unique_key: Option<String>,
    /// Jobs with one key run one at a time, or as many as the key's limit says
    #[arg(long, value_name = "KEY")]
    pub(crate) concurrency_key: Option<String>,
    /// Whose costs they are: a project's name
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
}

impl JobArgs {
    /// The input, read.
    pub(crate) fn input(&self) -> Result<Option<Value>, CliError> {
        self.input.as_deref().map(input::json).transpose()
    }
}
