//! What of the program itself can leave memory while it waits: the pages of its code, which come back from its file.

use std::fs;
use std::path::Path;

/// Where this program's code lies: address and length.
pub(super) fn own_code() -> Vec<(usize, usize)> {
    let program = fs::read_link("/proc/self/exe").unwrap_or_default();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let code = maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (range, access, path) = (fields.next()?, fields.next()?, fields.nth(3)?);
        let (start, end) =
            range.split_once('-').filter(|_| access == "r-xp" && Path::new(path) == program)?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((start, end - start))
    });
    code.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_code_is_part_of_the_programs_code() {
        let here = this_code_is_part_of_the_programs_code as fn() as usize;
        assert!(own_code().iter().any(|(start, bytes)| (*start..start + bytes).contains(&here)));
        super::super::weights::give_back();
        assert!(!own_code().is_empty(), "and it still runs");
    }
}
