// ESP32 with a 240 x 240 display and the library TFT_eSPI: shows a node's newest picture, row by row.
//
// The file is what the profile `esp32-240x240` makes: rows as the display takes them, the high byte first, so nothing is decoded here.
#include "HTTPClient.h"
#include "TFT_eSPI.h"
#include "WiFi.h"

const char *SSID = "your network";
const char *PASSWORD = "its password";
const char *URL = "http://192.168.1.20:8088/image/esp32-240x240";
const unsigned long EVERY_MS = 30000;
const int SIDE = 240;

TFT_eSPI tft;
String shown; // The ETag of the picture on the display.

void setup() {
    tft.init();
    WiFi.begin(SSID, PASSWORD);
}

void loop() {
    HTTPClient http;
    const char *headers[] = {"ETag"};
    http.begin(URL);
    http.collectHeaders(headers, 1);
    if (shown.length() > 0) {
        http.addHeader("If-None-Match", shown);
    }
    if (WiFi.status() == WL_CONNECTED && http.GET() == HTTP_CODE_OK) {
        static uint8_t row[SIDE * 2];
        int y = 0;
        while (y < SIDE && http.getStreamPtr()->readBytes(row, sizeof(row)) == sizeof(row)) {
            tft.pushImage(0, y++, SIDE, 1, (uint16_t *)row);
        }
        // A picture that broke off is asked for again.
        shown = y == SIDE ? http.header("ETag") : String();
    }
    http.end();
    delay(EVERY_MS);
}
