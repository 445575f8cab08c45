//! Ended jobs in pages, newest first: what a gallery shows.

use super::{Ended, HISTORY, Store, StoreError, parse};

impl Store {
    /// The newest `limit` ends before the one numbered `before`, or before none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn ends(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Ended)>, StoreError> {
        self.newest(before, limit, |_| true)
    }

    /// The same of those that have pictures.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn ends_with_pictures(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Ended)>, StoreError> {
        self.newest(before, limit, |ended| !ended.pictures.is_empty())
    }

    fn newest(
        &self,
        before: Option<u64>,
        limit: usize,
        wanted: impl Fn(&Ended) -> bool,
    ) -> Result<Vec<(u64, Ended)>, StoreError> {
        self.read(|read| {
            let history = read.open_table(HISTORY)?;
            let mut found = Vec::new();
            for entry in history.range::<u64>(..before.unwrap_or(u64::MAX))?.rev() {
                if found.len() == limit {
                    break;
                }
                let (number, record) = entry?;
                let ended: Ended = parse(record.value())?;
                if wanted(&ended) {
                    found.push((number.value(), ended));
                }
            }
            Ok(found)
        })
    }
}
