// Inkplate 10 and 6: wakes, shows a node's newest picture, sleeps. Arduino IDE with Soldered's Inkplate library.
//
// The file is what the profile `inkplate-10` (or `inkplate-6`) makes: as large as the panel, in its eight grays and dithered, so
// the library's own dithering stays off.
#include "HTTPClient.h"
#include "Inkplate.h"
#include "WiFi.h"

const char *SSID = "your network";
const char *PASSWORD = "its password";
const char *URL = "http://192.168.1.20:8088/image/inkplate-10";
const uint64_t SLEEP_MINUTES = 30;

// Survives deep sleep: a picture that is shown already is not drawn again. Tags have up to 140 characters.
RTC_DATA_ATTR char shown[144] = "";

Inkplate display(INKPLATE_3BIT);

// Whether there is another picture than the one that is shown; its ETag goes to `shown`.
bool isNew() {
    HTTPClient http;
    const char *headers[] = {"ETag"};
    http.begin(URL);
    http.collectHeaders(headers, 1);
    if (shown[0] != '\0') {
        http.addHeader("If-None-Match", shown);
    }
    const int status = http.sendRequest("HEAD");
    const String etag = http.header("ETag");
    http.end();
    if (status != HTTP_CODE_OK || etag.length() >= sizeof(shown) || etag == shown) {
        return false;
    }
    strcpy(shown, etag.c_str());
    return true;
}

void setup() {
    display.begin();
    WiFi.begin(SSID, PASSWORD);
    for (int attempt = 0; attempt < 60 && WiFi.status() != WL_CONNECTED; attempt++) {
        delay(500);
    }
    const bool dither = false, invert = false;
    if (WiFi.status() == WL_CONNECTED && isNew()) {
        if (display.drawImage(URL, Image::PNG, 0, 0, dither, invert)) {
            display.display();
        } else {
            shown[0] = '\0'; // Another try after the next sleep; the last picture stays.
        }
    }
    esp_sleep_enable_timer_wakeup(SLEEP_MINUTES * 60 * 1000000ULL);
    esp_deep_sleep_start();
}

void loop() {}
