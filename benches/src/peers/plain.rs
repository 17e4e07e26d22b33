//! A file that grows: one `write` and one `fdatasync` for each transaction.

use super::{Link, Peer};
use crate::Failed;
use std::fs::File;
use std::io::Write;
use std::path::Path;

pub(super) struct Plain {
    file: File,
    bytes: Vec<u8>,
}

impl Plain {
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        Ok(Self {
            file: File::create(path)?,
            bytes: Vec::new(),
        })
    }
}

impl Peer for Plain {
    fn commit(&mut self, links: &[Link]) -> Result<(), Failed> {
        self.bytes.clear();
        for link in links {
            link.encode(&mut self.bytes);
        }
        self.file.write_all(&self.bytes)?;
        Ok(self.file.sync_data()?)
    }
}
