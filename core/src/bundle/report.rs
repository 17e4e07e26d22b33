//! What the check of a bundle comes to: findings with a receipt and a stable code, and what was counted.

use super::Header;
use crate::digest::TreeRoot;
use crate::kinds::LogGenesis;

/// Findings that a report keeps; further ones are only counted, so that memory stays flat.
pub const FINDINGS_MAX: usize = 100;

/// Something wrong in a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The receipt, when it is about one.
    pub seq: Option<u64>,
    /// A stable code.
    pub code: &'static str,
    /// What differs.
    pub text: String,
}

/// How a check ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BundleReport {
    /// The header, when it could be read.
    pub header: Option<Header>,
    /// What the log's genesis says, when it is one.
    pub genesis: Option<LogGenesis>,
    /// Records that were read.
    pub records: u64,
    /// Author signatures that are valid.
    pub author_signatures: u64,
    /// Payloads that fit their commitments.
    pub payloads: u64,
    /// Payloads said to be erased.
    pub erased: u64,
    /// Payloads said to be absent for another reason; each is a finding, too.
    pub absent: u64,
    /// When the newest record was sealed, as its machine says.
    pub newest: Option<crate::Hlc>,
    /// The tree's root over the records up to the last one here, as computed.
    pub root: Option<TreeRoot>,
    /// Records under the checkpoint at the end, when that holds. Past a range there are more than here.
    pub tree_size: Option<u64>,
    /// The first [`FINDINGS_MAX`] findings, in the order of the file.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub findings_total: u64,
}

impl BundleReport {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings_total == 0
    }

    /// The first finding that names a receipt.
    pub fn first_bad_seq(&self) -> Option<u64> {
        self.findings.iter().find_map(|finding| finding.seq)
    }
}
