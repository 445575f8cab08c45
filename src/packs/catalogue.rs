//! The packs that a node serves, looked at again while it runs: what was installed since is found, what was removed is
//! forgotten.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::shelf::places;
use super::{Pack, PackError};
use crate::jobs::PackInfo;

/// What of a pack tells by its times that the pack is another one: installing exchanges the directory, people put
/// embeddings into it. What the engine packs lies deeper and tells nothing.
const TELLING: [&str; 4] = ["", "easel.toml", "model_index.json", "embeddings"];

/// A pack as it was at one time, as far as that can be told without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Option<[i64; 4]>>);

impl Stamp {
    /// Of the pack in `directory` now.
    pub fn of(directory: &Path) -> Stamp {
        let told = |name: &&str| {
            let metadata = fs::metadata(directory.join(name)).ok()?;
            Some([metadata.dev() as i64, metadata.ino() as i64, metadata.mtime(), metadata.mtime_nsec()])
        };
        Stamp(TELLING.iter().map(told).collect())
    }
}

/// One pack, or a directory that looks like one.
struct Entry {
    name: String,
    directory: PathBuf,
    stamp: Stamp,
    pack: Result<Pack, PackError>,
}

impl Entry {
    fn open(name: String, directory: PathBuf) -> Entry {
        // Before it is read: what changes meanwhile is seen next time.
        let stamp = Stamp::of(&directory);
        let pack = Pack::open(&directory);
        if let Err(error) = &pack {
            tracing::warn!(model = name, "cannot be used: {error}");
        }
        Entry { name, directory, stamp, pack }
    }

    /// Opens it again if it is another one, or could not be opened; whether requests get anything else now.
    fn look_again(&mut self) -> bool {
        let stamp = Stamp::of(&self.directory);
        if self.pack.is_ok() && stamp == self.stamp {
            return false;
        }
        let pack = Pack::open(&self.directory);
        let said = |pack: &Result<Pack, PackError>| pack.as_ref().err().map(ToString::to_string);
        let (before, now) = (said(&self.pack), said(&pack));
        if let Some(error) = now.as_ref().filter(|_| before != now) {
            tracing::warn!(model = self.name, "cannot be used: {error}");
        }
        (self.stamp, self.pack) = (stamp, pack);
        before.is_none() || now.is_none()
    }
}

/// See the module.
pub struct Catalogue {
    default: Entry,
    /// What it was when it could last be used.
    default_pack: Pack,
    search_path: Vec<PathBuf>,
    others: Vec<Entry>,
}

impl Catalogue {
    /// `default`, and every other pack below `search_path` that is whole. Of two with one name the first counts.
    pub fn new(default: Pack, search_path: Vec<PathBuf>) -> Catalogue {
        let (name, directory) = (default.name.clone(), default.directory.clone());
        let stamp = Stamp::of(&directory);
        let entry = Entry { name, directory, stamp, pack: Ok(default.clone()) };
        let mut catalogue =
            Catalogue { default: entry, default_pack: default, search_path, others: Vec::new() };
        catalogue.look_again();
        catalogue
    }

    /// Whether packs have come, gone or changed since. The default one stays as it was when it is no longer there.
    pub fn look_again(&mut self) -> bool {
        let mut changed = self.default.look_again();
        if let Ok(pack) = &self.default.pack {
            self.default_pack = pack.clone();
        }
        let mut before = std::mem::take(&mut self.others);
        for (name, directory) in places(&self.search_path) {
            if name == self.default.name {
                continue;
            }
            let known = before.iter().position(|entry| entry.name == name && entry.directory == directory);
            let entry = match known {
                Some(at) => {
                    let mut entry = before.swap_remove(at);
                    changed |= entry.look_again();
                    entry
                }
                None => {
                    let entry = Entry::open(name, directory);
                    changed |= entry.pack.is_ok();
                    entry
                }
            };
            self.others.push(entry);
        }
        changed | before.iter().any(|gone| gone.pack.is_ok())
    }

    /// What the daemon tells the world about the packs, the default one first.
    pub fn infos(&self) -> Vec<PackInfo> {
        let others = self.others.iter().filter_map(|entry| entry.pack.as_ref().ok());
        std::iter::once(&self.default_pack).chain(others).map(Pack::info).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bundled pack's small files, with empty networks.
    fn pack(directory: &Path) {
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji");
        for part in ["text_encoder", "unet", "vae_decoder", "scheduler"] {
            fs::create_dir_all(directory.join(part)).unwrap();
            let config = if part == "scheduler" { "scheduler_config.json" } else { "config.json" };
            fs::copy(bundled.join(part).join(config), directory.join(part).join(config)).unwrap();
            fs::write(directory.join(part).join("model.onnx"), part).unwrap();
        }
        fs::write(directory.join("model_index.json"), "{}").unwrap();
    }

    fn names(catalogue: &Catalogue) -> Vec<String> {
        catalogue.infos().into_iter().map(|info| info.name).collect()
    }

    #[test]
    fn packs_come_change_and_go() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join("models").join(name);
        pack(&root.path().join("own"));
        let default = Pack::open(&root.path().join("own")).unwrap();
        let mut catalogue = Catalogue::new(default, vec![root.path().join("models")]);
        assert_eq!(names(&catalogue), ["own"]);
        assert!(!catalogue.look_again());

        pack(&place("b"));
        pack(&place("a"));
        pack(&place(".hidden"));
        fs::create_dir_all(place("empty")).unwrap();
        assert!(catalogue.look_again());
        assert_eq!(names(&catalogue), ["own", "a", "b"]);
        assert!(!catalogue.look_again());

        // Another pack of the same name, as installing leaves it.
        let before = catalogue.infos();
        pack(&root.path().join("new"));
        fs::write(root.path().join("new/unet/model.onnx"), "another").unwrap();
        fs::rename(place("b"), root.path().join("old")).unwrap();
        fs::rename(root.path().join("new"), place("b")).unwrap();
        assert!(catalogue.look_again());
        assert_ne!(catalogue.infos()[2].pack_hash, before[2].pack_hash);
        assert_eq!(catalogue.infos()[1], before[1]);

        // What cannot be used is tried until it can.
        fs::rename(place("a/unet/model.onnx"), place("a/unet/gone")).unwrap();
        fs::write(place("a/easel.toml"), "").unwrap();
        assert!(catalogue.look_again());
        assert_eq!(names(&catalogue), ["own", "b"]);
        assert!(!catalogue.look_again());
        fs::rename(place("a/unet/gone"), place("a/unet/model.onnx")).unwrap();
        assert!(catalogue.look_again());
        assert_eq!(names(&catalogue), ["own", "a", "b"]);

        fs::remove_dir_all(place("a")).unwrap();
        fs::remove_dir_all(root.path().join("own")).unwrap();
        assert!(catalogue.look_again());
        assert_eq!(names(&catalogue), ["own", "b"], "the default one is kept");
        assert!(!catalogue.look_again());
    }

    #[test]
    fn learned_words_are_part_of_what_a_pack_is() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("own");
        pack(&directory);
        let mut catalogue = Catalogue::new(Pack::open(&directory).unwrap(), Vec::new());
        let mut hashes = vec![catalogue.infos()[0].pack_hash.clone()];
        let word = |value: f32| {
            let width = catalogue_width(&directory);
            let header = format!(
                "{{\"<x>\":{{\"dtype\":\"F32\",\"shape\":[1,{width}],\"data_offsets\":[0,{}]}}}}",
                4 * width
            );
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(vec![value; width].iter().flat_map(|value| value.to_le_bytes()));
            bytes
        };
        fs::create_dir(directory.join("embeddings")).unwrap();
        for value in [0.5, 0.75] {
            fs::write(directory.join("embeddings/new"), word(value)).unwrap();
            let home = directory.join("embeddings/x.safetensors");
            fs::rename(directory.join("embeddings/new"), home).unwrap();
            // A checksum that was recorded says nothing about a file that people replace.
            let sum = "0".repeat(64);
            let toml = format!("[checksums]\n\"embeddings/x.safetensors\" = \"{sum}\"\n");
            fs::write(directory.join("easel.toml"), toml).unwrap();
            assert!(catalogue.look_again());
            hashes.push(catalogue.infos()[0].pack_hash.clone());
        }
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2], "{hashes:?}");
    }

    fn catalogue_width(directory: &Path) -> usize {
        Pack::open(directory).unwrap().unet.cross_attention_dim
    }
}
