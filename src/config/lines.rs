//! On which line of the file a problem is: the layers know files, not lines.

use std::path::Path;

use super::ConfigError;

/// The same problems; those of `file` say the line of `text` that they are about, as compilers do.
pub(super) fn added(error: ConfigError, file: Option<&Path>, text: &str) -> ConfigError {
    let Some(file) = file.map(|path| path.display().to_string()) else { return error };
    let mut problems = error.problems;
    for problem in problems.iter_mut().filter(|problem| problem.place == file) {
        if let Some(line) = line_of(text, &problem.key) {
            problem.place = format!("{file}:{line}");
        }
    }
    ConfigError { problems }
}

/// The line of `section.key`, or of the section itself, from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (section, name) = key.split_once('.').map_or((key, None), |(section, name)| (section, Some(name)));
    let mut current = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = header.trim().to_owned();
            if name.is_none() && current == section {
                return Some(number + 1);
            }
        }
        let assigned = line.split_once('=').map(|(assigned, _)| assigned.trim());
        let here = match name {
            Some(name) => {
                (current == section && assigned == Some(name))
                    || (current.is_empty() && assigned == Some(key))
            }
            None => current.is_empty() && assigned == Some(section),
        };
        if here {
            return Some(number + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_below_their_sections() {
        let text = "stray = 1\nstate.jobs = \"x\"\n# [mqtt]\n[mqtt]\n# url = 1\nurl = 2\n[limits]\n  url=3\n[ node ]\n";
        for (key, line) in [
            ("mqtt.url", Some(6)),
            ("limits.url", Some(8)),
            ("state.jobs", Some(2)),
            ("mqtt", Some(4)),
            ("node", Some(9)),
            ("stray", Some(1)),
            ("mqtt.prefix", None),
        ] {
            assert_eq!(line_of(text, key), line, "{key}");
        }
    }
}
