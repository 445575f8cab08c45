// What the page says, in the languages it knows. A new one is one more column: `say` falls back to English for what it lacks.

const WORDS = {
  en: {
    name: "English", welcome: "Say what you would like to see.", prompt: "What should the picture show?", create: "Create",
    again: "Again, differently", variation: "A variation", print: "Download for printing", delete: "Delete", gallery: "Gallery",
    settings: "Settings", close: "Close", previous: "Earlier picture", next: "Later picture", tools: "Tools", dock: "New picture",
    examples: "Examples", keyboard: "Keyboard on the screen", progress: "Progress", cancel: "Stop", language: "Language",
    captions: "Show the prompt", fill: "Fill the screen", slideshow: "Play the gallery when idle", empty: "No pictures yet.",
    sure: "Delete this picture?", sureText: "It will be gone for good, here and on all displays.", keep: "Keep it",
    locked: "This easel is locked", secret: "PIN or token", unlock: "Unlock", wrong: "That was not right.", blocked: "Too many attempts. Wait a minute.",
    queued: "Waiting, {n} before you", starting: "Getting ready …", painting: "Painting: {prompt}", paintingPlain: "Painting …",
    eta: "about {s} s", etaMinutes: "about {m} min", done: "The picture is ready: {prompt}", failed: "That did not work: {why}",
    cancelled: "Stopped.", offline: "No connection, trying again", full: "Too many are waiting. Try again soon.",
    later: "Not connected. Your picture is asked for as soon as the connection is back.", paused: "Paused", trouble: "{why}",
    picture: "Picture {n}", deleted: "Deleted.", underway: "It is still on its way to the displays. Try again soon.",
    "key.shift": "Capitals", "key.erase": "Erase", "key.space": "Space", "key.create": "Create", "key.comma": "Comma",
    "key.stop": "Full stop", "key.symbols": "Digits and signs", "key.letters": "Letters", "key.clear": "Clear",
  },
  de: {
    name: "Deutsch", welcome: "Sag, was du sehen möchtest.", prompt: "Was soll das Bild zeigen?", create: "Malen",
    again: "Noch einmal, anders", variation: "Eine Variante", print: "Zum Drucken herunterladen", delete: "Löschen", gallery: "Galerie",
    settings: "Einstellungen", close: "Schließen", previous: "Früheres Bild", next: "Späteres Bild", tools: "Werkzeuge", dock: "Neues Bild",
    examples: "Beispiele", keyboard: "Tastatur auf dem Bildschirm", progress: "Fortschritt", cancel: "Anhalten", language: "Sprache",
    captions: "Text zum Bild zeigen", fill: "Bildschirm füllen", slideshow: "Galerie zeigen, wenn niemand da ist", empty: "Noch keine Bilder.",
    sure: "Dieses Bild löschen?", sureText: "Es ist dann endgültig weg, hier und auf allen Anzeigen.", keep: "Behalten",
    locked: "Diese Staffelei ist gesperrt", secret: "PIN oder Kennwort", unlock: "Entsperren", wrong: "Das war nicht richtig.", blocked: "Zu viele Versuche. Bitte eine Minute warten.",
    queued: "Wartet, {n} vor dir", starting: "Wird vorbereitet …", painting: "Malt: {prompt}", paintingPlain: "Malt …",
    eta: "etwa {s} s", etaMinutes: "etwa {m} min", done: "Das Bild ist fertig: {prompt}", failed: "Das hat nicht geklappt: {why}",
    cancelled: "Angehalten.", offline: "Keine Verbindung, neuer Versuch läuft", full: "Es warten schon zu viele. Bitte gleich noch einmal.",
    later: "Keine Verbindung. Dein Bild wird bestellt, sobald sie wieder da ist.", paused: "Pausiert",
    picture: "Bild {n}", deleted: "Gelöscht.", underway: "Es ist noch auf dem Weg zu den Anzeigen. Bitte gleich noch einmal.",
    "key.shift": "Großbuchstaben", "key.erase": "Löschen", "key.space": "Leerzeichen", "key.create": "Malen", "key.comma": "Komma",
    "key.stop": "Punkt", "key.symbols": "Ziffern und Zeichen", "key.letters": "Buchstaben", "key.clear": "Leeren",
  },
  fr: {
    name: "Français", welcome: "Dites ce que vous aimeriez voir.", prompt: "Que doit montrer l’image ?", create: "Créer",
    again: "Encore, autrement", variation: "Une variante", print: "Télécharger pour imprimer", delete: "Supprimer", gallery: "Galerie",
    settings: "Réglages", close: "Fermer", previous: "Image précédente", next: "Image suivante", tools: "Outils", dock: "Nouvelle image",
    examples: "Exemples", keyboard: "Clavier à l’écran", progress: "Avancement", cancel: "Arrêter", language: "Langue",
    captions: "Afficher la description", fill: "Remplir l’écran", slideshow: "Faire défiler la galerie au repos", empty: "Pas encore d’images.",
    sure: "Supprimer cette image ?", sureText: "Elle disparaîtra pour de bon, ici et sur tous les écrans.", keep: "La garder",
    locked: "Ce chevalet est verrouillé", secret: "Code ou jeton", unlock: "Déverrouiller", wrong: "Ce n’était pas le bon.", blocked: "Trop d’essais. Attendez une minute.",
    queued: "En attente, {n} avant vous", starting: "Préparation…", painting: "Peint : {prompt}", paintingPlain: "Peint…",
    eta: "environ {s} s", etaMinutes: "environ {m} min", done: "L’image est prête : {prompt}", failed: "Cela n’a pas marché : {why}",
    cancelled: "Arrêté.", offline: "Pas de connexion, nouvel essai", full: "Trop de demandes en attente. Réessayez bientôt.",
    later: "Pas de connexion. Votre image sera demandée dès son retour.", paused: "En pause",
    picture: "Image {n}", deleted: "Supprimée.", underway: "Elle est encore en route vers les écrans. Réessayez bientôt.",
    "key.shift": "Majuscules", "key.erase": "Effacer", "key.space": "Espace", "key.create": "Créer", "key.comma": "Virgule",
    "key.stop": "Point", "key.symbols": "Chiffres et signes", "key.letters": "Lettres", "key.clear": "Vider",
  },
  es: {
    name: "Español", welcome: "Di lo que te gustaría ver.", prompt: "¿Qué debe mostrar la imagen?", create: "Crear",
    again: "Otra vez, distinta", variation: "Una variante", print: "Descargar para imprimir", delete: "Borrar", gallery: "Galería",
    settings: "Ajustes", close: "Cerrar", previous: "Imagen anterior", next: "Imagen siguiente", tools: "Herramientas", dock: "Nueva imagen",
    examples: "Ejemplos", keyboard: "Teclado en pantalla", progress: "Progreso", cancel: "Parar", language: "Idioma",
    captions: "Mostrar la descripción", fill: "Llenar la pantalla", slideshow: "Mostrar la galería en reposo", empty: "Aún no hay imágenes.",
    sure: "¿Borrar esta imagen?", sureText: "Desaparecerá para siempre, aquí y en todas las pantallas.", keep: "Conservarla",
    locked: "Este caballete está bloqueado", secret: "PIN o clave", unlock: "Desbloquear", wrong: "No era correcto.", blocked: "Demasiados intentos. Espera un minuto.",
    queued: "En espera, {n} antes que tú", starting: "Preparando…", painting: "Pintando: {prompt}", paintingPlain: "Pintando…",
    eta: "unos {s} s", etaMinutes: "unos {m} min", done: "La imagen está lista: {prompt}", failed: "No ha funcionado: {why}",
    cancelled: "Parado.", offline: "Sin conexión, intentando de nuevo", full: "Hay demasiadas en espera. Inténtalo pronto.",
    later: "Sin conexión. Tu imagen se pedirá en cuanto vuelva.", paused: "En pausa",
    picture: "Imagen {n}", deleted: "Borrada.", underway: "Aún va de camino a las pantallas. Inténtalo pronto.",
    "key.shift": "Mayúsculas", "key.erase": "Borrar", "key.space": "Espacio", "key.create": "Crear", "key.comma": "Coma",
    "key.stop": "Punto", "key.symbols": "Cifras y signos", "key.letters": "Letras", "key.clear": "Vaciar",
  },
  it: {
    name: "Italiano", welcome: "Di’ che cosa vorresti vedere.", prompt: "Che cosa deve mostrare l’immagine?", create: "Crea",
    again: "Ancora, diversa", variation: "Una variante", print: "Scarica per la stampa", delete: "Elimina", gallery: "Galleria",
    settings: "Impostazioni", close: "Chiudi", previous: "Immagine precedente", next: "Immagine successiva", tools: "Strumenti", dock: "Nuova immagine",
    examples: "Esempi", keyboard: "Tastiera sullo schermo", progress: "Avanzamento", cancel: "Ferma", language: "Lingua",
    captions: "Mostra la descrizione", fill: "Riempi lo schermo", slideshow: "Mostra la galleria a riposo", empty: "Ancora nessuna immagine.",
    sure: "Eliminare questa immagine?", sureText: "Sparirà per sempre, qui e su tutti gli schermi.", keep: "Tienila",
    locked: "Questo cavalletto è bloccato", secret: "PIN o chiave", unlock: "Sblocca", wrong: "Non era giusto.", blocked: "Troppi tentativi. Aspetta un minuto.",
    queued: "In attesa, {n} prima di te", starting: "Preparazione…", painting: "Dipinge: {prompt}", paintingPlain: "Dipinge…",
    eta: "circa {s} s", etaMinutes: "circa {m} min", done: "L’immagine è pronta: {prompt}", failed: "Non ha funzionato: {why}",
    cancelled: "Fermato.", offline: "Nessuna connessione, nuovo tentativo", full: "Troppe richieste in attesa. Riprova tra poco.",
    later: "Nessuna connessione. L’immagine sarà chiesta appena torna.", paused: "In pausa",
    picture: "Immagine {n}", deleted: "Eliminata.", underway: "È ancora in viaggio verso gli schermi. Riprova tra poco.",
    "key.shift": "Maiuscole", "key.erase": "Cancella", "key.space": "Spazio", "key.create": "Crea", "key.comma": "Virgola",
    "key.stop": "Punto", "key.symbols": "Cifre e segni", "key.letters": "Lettere", "key.clear": "Svuota",
  },
  nl: {
    name: "Nederlands", welcome: "Zeg wat je wilt zien.", prompt: "Wat moet de afbeelding tonen?", create: "Maken",
    again: "Nog eens, anders", variation: "Een variant", print: "Downloaden om te printen", delete: "Verwijderen", gallery: "Galerij",
    settings: "Instellingen", close: "Sluiten", previous: "Vorige afbeelding", next: "Volgende afbeelding", tools: "Gereedschap", dock: "Nieuwe afbeelding",
    examples: "Voorbeelden", keyboard: "Toetsenbord op het scherm", progress: "Voortgang", cancel: "Stoppen", language: "Taal",
    captions: "Beschrijving tonen", fill: "Scherm vullen", slideshow: "Galerij tonen bij rust", empty: "Nog geen afbeeldingen.",
    sure: "Deze afbeelding verwijderen?", sureText: "Ze is dan voorgoed weg, hier en op alle schermen.", keep: "Bewaren",
    locked: "Deze ezel is vergrendeld", secret: "Pincode of sleutel", unlock: "Ontgrendelen", wrong: "Dat klopte niet.", blocked: "Te veel pogingen. Wacht een minuut.",
    queued: "Wacht, {n} voor je", starting: "Voorbereiden …", painting: "Schildert: {prompt}", paintingPlain: "Schildert …",
    eta: "ongeveer {s} s", etaMinutes: "ongeveer {m} min", done: "De afbeelding is klaar: {prompt}", failed: "Dat lukte niet: {why}",
    cancelled: "Gestopt.", offline: "Geen verbinding, opnieuw proberen", full: "Er wachten er al te veel. Probeer het zo nog eens.",
    later: "Geen verbinding. Je afbeelding wordt gevraagd zodra die terug is.", paused: "Gepauzeerd",
    picture: "Afbeelding {n}", deleted: "Verwijderd.", underway: "Ze is nog onderweg naar de schermen. Probeer het zo nog eens.",
    "key.shift": "Hoofdletters", "key.erase": "Wissen", "key.space": "Spatie", "key.create": "Maken", "key.comma": "Komma",
    "key.stop": "Punt", "key.symbols": "Cijfers en tekens", "key.letters": "Letters", "key.clear": "Leegmaken",
  },
};

let language = "en";

export const languages = () => Object.entries(WORDS).map(([code, words]) => [code, words.name]);

/** Picks the language: `wanted`, or the first of the browser's that is known. */
export function choose(wanted) {
  const all = wanted && wanted !== "auto" ? [wanted] : navigator.languages ?? [];
  language = all.map((tag) => tag.slice(0, 2).toLowerCase()).find((code) => code in WORDS) ?? "en";
  document.documentElement.lang = language;
  return language;
}

export function say(key, values = {}) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Writes all words of the page: `data-word` as text, `data-label` for screen readers and as a hint. */
export function write(root = document) {
  for (const element of root.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
    if (element.matches("button, a")) element.title = say(element.dataset.label);
  }
}
