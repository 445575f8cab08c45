// As much of ESP32's Arduino core and of two display libraries as the sketches of docs/displays use, for a host: the names, types and
// return values are theirs (arduino-esp32 3.x, Inkplate 10, TFT_eSPI 2.5), HTTP is real. What is drawn goes to files, `delay` and deep
// sleep end a turn. A host compiler is no ESP32's: what this shows is that the sketches compile against these signatures and do what
// they should against a real node.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cassert>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#define RTC_DATA_ATTR

struct TurnEnds {};

class String {
public:
    String(const char *text = "") : text(text) {}
    String(const std::string &text) : text(text) {}
    const char *c_str() const { return text.c_str(); }
    unsigned int length() const { return text.size(); }
    bool operator==(const char *other) const { return text == other; }
    bool operator==(const String &other) const { return text == other.text; }

private:
    std::string text;
};

inline void delay(unsigned long ms) {
    if (ms >= 1000) throw TurnEnds();
}
inline void esp_sleep_enable_timer_wakeup(uint64_t microseconds) { assert(microseconds >= 1000000); }
inline void esp_deep_sleep_start() { throw TurnEnds(); }

enum wl_status_t { WL_CONNECTED = 3, WL_DISCONNECTED = 6 };
struct WiFiClass {
    void begin(const char *, const char *) { begun = true; }
    wl_status_t status() { return begun ? WL_CONNECTED : WL_DISCONNECTED; }
    bool begun = false;
};
inline WiFiClass WiFi;

class WiFiClient {
public:
    // Stream::readBytes: as many as come.
    size_t readBytes(uint8_t *into, size_t length) {
        size_t filled = 0;
        for (ssize_t got; filled < length && (got = recv(fd, into + filled, length - filled, 0)) > 0;) filled += got;
        return filled;
    }
    int fd = -1;
};

enum { HTTP_CODE_OK = 200 };

class HTTPClient {
public:
    // The host of the sketches stands for the node of the test, whose port is $EASELD_PORT.
    bool begin(const char *url) {
        const char *path = strchr(strstr(url, "//") + 2, '/');
        assert(strncmp(url, "http://192.168.1.20:8088/", 25) == 0);
        this->path = path;
        return true;
    }
    void collectHeaders(const char *names[], const size_t count) {
        for (size_t i = 0; i < count; i++) wanted.push_back(names[i]);
    }
    void addHeader(const String &name, const String &value) {
        sent += std::string(name.c_str()) + ": " + value.c_str() + "\r\n";
    }
    int GET() { return sendRequest("GET"); }
    int sendRequest(const char *method) {
        const char *port = getenv("EASELD_PORT");
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_port = htons(atoi(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        client.fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(client.fd, (sockaddr *)&address, sizeof(address)) != 0) return -1;
        std::string ask = std::string(method) + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1:" + port + "\r\n" + sent + "Connection: close\r\n\r\n";
        assert(send(client.fd, ask.data(), ask.size(), 0) == (ssize_t)ask.size());
        const int status = atoi(line().substr(9, 3).c_str());
        for (std::string header = line(); !header.empty(); header = line()) {
            const size_t colon = header.find(':');
            std::string name = header.substr(0, colon);
            for (const std::string &one : wanted) {
                if (strcasecmp(one.c_str(), name.c_str()) == 0) found[one] = header.substr(colon + 2);
            }
        }
        printf("%s %s %d\n", method, path.c_str(), status);
        return status;
    }
    String header(const char *name) { return String(found[name]); }
    WiFiClient *getStreamPtr() { return &client; }
    void end() {
        if (client.fd >= 0) close(client.fd);
        client.fd = -1;
    }

private:
    std::string line() {
        std::string text;
        for (char c; recv(client.fd, &c, 1, 0) == 1 && c != '\n';) {
            if (c != '\r') text += c;
        }
        return text;
    }
    std::string path, sent;
    std::vector<std::string> wanted;
    std::map<std::string, std::string> found;
    WiFiClient client;
};

// What is shown goes to $EASELD_SHOWN.
inline void shows(const std::string &bytes) {
    FILE *file = fopen(getenv("EASELD_SHOWN"), "wb");
    assert(file && fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
    fclose(file);
    printf("shown %zu bytes\n", bytes.size());
}

enum { INKPLATE_1BIT = 0, INKPLATE_3BIT = 1 };
struct Image {
    enum Format { BMP, JPG, PNG };
};
class Inkplate {
public:
    explicit Inkplate(uint8_t mode) { assert(mode == INKPLATE_3BIT); }
    bool begin() { return true; }
    bool drawImage(const char *url, const Image::Format &format, const int x, const int y, const bool dither = 1, const bool invert = 0) {
        assert(format == Image::PNG && x == 0 && y == 0 && !dither && !invert);
        HTTPClient http;
        http.begin(url);
        if (http.GET() != HTTP_CODE_OK) return false;
        drawn.clear();
        uint8_t byte;
        while (http.getStreamPtr()->readBytes(&byte, 1) == 1) drawn += (char)byte;
        http.end();
        return drawn.compare(1, 3, "PNG") == 0;
    }
    void display() { shows(drawn); }

private:
    std::string drawn;
};

class TFT_eSPI {
public:
    void init() {}
    void pushImage(int32_t x, int32_t y, int32_t width, int32_t height, uint16_t *data) {
        assert(x == 0 && height == 1 && y * width * 2 == (int32_t)rows.size());
        rows.append((const char *)data, width * 2);
        if ((int32_t)rows.size() == width * width * 2) {
            shows(rows);
            rows.clear();
        }
    }

private:
    std::string rows;
};

void setup();
void loop();

// Three turns: a loop each, or a wake-up each where the sketch sleeps. Between them the test may have another picture painted.
int main() {
    bool sleeps = true;
    for (int turn = 0; turn < 3; turn++) {
        try {
            if (turn == 0 || sleeps) setup();
            sleeps = false;
            loop();
        } catch (TurnEnds) {
        }
        printf("turn %d\n", turn);
        fflush(stdout);
        getchar();
    }
}
