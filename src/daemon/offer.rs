//! What the node offers while packs come and go: requests are held against it, and who was told of it is told anew.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::json_bytes;
use crate::config::Settings;
use crate::diffusion::request::Limits;
use crate::jobs::PackInfo;
use crate::jobs::report::{InfoReport, Offer};

/// Looks whether packs have come, gone or changed since it was last called: all there are, where it is so.
pub type Look = Box<dyn FnMut() -> Option<Vec<PackInfo>> + Send>;

/// The packs of a node, the default one first.
pub struct Packs {
    now: Vec<PackInfo>,
    look: Option<Look>,
}

impl From<Vec<PackInfo>> for Packs {
    /// Packs that stay as they are.
    fn from(now: Vec<PackInfo>) -> Self {
        Self { now, look: None }
    }
}

impl Packs {
    /// Packs that `look` has more to say of.
    pub fn changing(now: Vec<PackInfo>, look: Look) -> Self {
        Self { now, look: Some(look) }
    }

    /// Those of the moment.
    pub fn now(&self) -> &[PackInfo] {
        &self.now
    }

    /// The same, for who knows more of them.
    pub fn now_mut(&mut self) -> &mut [PackInfo] {
        &mut self.now
    }
}

/// One look at a time, and what it found.
struct Lookout {
    look: Look,
    found: Option<Vec<PackInfo>>,
}

impl Lookout {
    fn look(&mut self) {
        if let Some(packs) = (self.look)() {
            self.found = Some(packs);
        }
    }
}

/// Everything but the packs that `info` says.
struct About {
    node: String,
    limits: Limits,
    queue_capacity: usize,
    /// What is published, and what a request may want.
    renditions: [Vec<String>; 2],
}

impl About {
    fn with(&self, packs: Vec<PackInfo>) -> Offer {
        let [published, possible] = &self.renditions;
        let mut info = InfoReport::new(&self.node, &packs, &self.limits, self.queue_capacity, possible);
        info.renditions.clone_from(published);
        Offer { info: json_bytes(&info), packs }
    }
}

/// See the module.
pub(super) struct Offering {
    about: About,
    offer: watch::Sender<Offer>,
    lookout: Option<Arc<Mutex<Lookout>>>,
    looking: Option<JoinHandle<()>>,
}

impl Offering {
    pub(super) fn new(packs: Packs, settings: &Settings, limits: &Limits) -> Self {
        let about = About {
            node: settings.node.name.clone(),
            limits: limits.clone(),
            queue_capacity: settings.limits.queue_capacity,
            renditions: [settings.display.renditions.clone(), settings.rendition_names()],
        };
        let offer = watch::channel(about.with(packs.now)).0;
        let lookout = packs.look.map(|look| Arc::new(Mutex::new(Lookout { look, found: None })));
        Self { about, offer, lookout, looking: None }
    }

    /// For those who tell of it.
    pub(super) fn subscribe(&self) -> watch::Receiver<Offer> {
        self.offer.subscribe()
    }

    /// The packs as they were last seen.
    pub(super) fn now(&self) -> watch::Ref<'_, Offer> {
        self.offer.borrow()
    }

    /// Takes over what the last look found, and looks again, beside the loop: opening a large pack may take a while. Whether
    /// something has changed.
    pub(super) fn follow(&mut self) -> bool {
        let Some(lookout) = &self.lookout else { return false };
        if self.looking.as_ref().is_some_and(|looking| !looking.is_finished()) {
            return false;
        }
        let found = lookout.lock().unwrap_or_else(PoisonError::into_inner).found.take();
        let again = lookout.clone();
        let look = move || again.lock().unwrap_or_else(PoisonError::into_inner).look();
        self.looking = Some(tokio::task::spawn_blocking(look));
        self.take(found)
    }

    /// Whether requests may name `model`, as far as is known.
    pub(super) fn has(&self, model: &str) -> bool {
        self.now().packs.iter().any(|pack| pack.name == model)
    }

    /// Looks now. Whether something has changed.
    pub(super) fn look(&mut self) -> bool {
        let Some(lookout) = &self.lookout else { return false };
        let mut lookout = lookout.lock().unwrap_or_else(PoisonError::into_inner);
        lookout.look();
        let found = lookout.found.take();
        drop(lookout);
        self.take(found)
    }

    fn take(&mut self, found: Option<Vec<PackInfo>>) -> bool {
        let Some(mut packs) = found else { return false };
        // What of a pack fits into memory was found out at the start: looking does not plan networks.
        for pack in &mut packs {
            let offer = self.offer.borrow();
            let same = |known: &&PackInfo| known.name == pack.name && known.pack_hash == pack.pack_hash;
            pack.defaults.room = offer.packs.iter().find(same).and_then(|known| known.defaults.room.clone());
        }
        let names: Vec<&str> = packs.iter().map(|pack| pack.name.as_str()).collect();
        tracing::info!(models = names.join(", "), "models have come or gone");
        self.offer.send_replace(self.about.with(packs));
        true
    }
}
