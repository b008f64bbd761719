// Prints the verdict on an image by a detector that was exported with `anomaly export RUN --format onnx --any-size`.
//
//   verdict model.onnx image.ppm
//
// The graph resizes, crops and normalises; this program gives it bytes, RGB, row by row.
// Exit status: 0 normal, 1 anomalous, 2 error.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
    int64_t height = 0, width = 0;
    std::vector<uint8_t> pixels;  // height x width x 3, RGB
};

// A binary PPM (P6, 8 bits), which needs no library. With OpenCV: cv::imread(path, cv::IMREAD_COLOR), then
// cv::cvtColor(image, image, cv::COLOR_BGR2RGB): OpenCV has blue first, and the detector wants red first.
Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    auto number = [&file]() {
        file >> std::ws;
        while (file.peek() == '#') {
            std::string comment;
            std::getline(file, comment);
            file >> std::ws;
        }
        int64_t value = -1;
        file >> value;
        return value;
    };
    std::string kind;
    file >> kind;
    Image image;
    image.width = number();
    image.height = number();
    const int64_t white = number();
    file.get();  // one blank
    if (!file || kind != "P6" || white != 255 || image.width < 1 || image.height < 1 || image.width > 65536 ||
        image.height > 65536) {
        throw std::runtime_error(path + " is no binary PPM of 8 bits. `convert image.png image.ppm` makes one.");
    }
    image.pixels.resize(static_cast<size_t>(image.height * image.width * 3));
    file.read(reinterpret_cast<char*>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size()));
    if (file.gcount() != static_cast<std::streamsize>(image.pixels.size())) {
        throw std::runtime_error(path + " is cut short: it has fewer pixels than it says. There is no verdict.");
    }
    return image;
}

// What the file says in plain text beside the graph; empty if it says nothing.
std::string said(const Ort::Session& session, const char* key) {
    Ort::AllocatorWithDefaultOptions allocator;
    auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
    return text ? std::string(text.get()) : std::string();
}

int main(int count, char** words) {
    try {
        if (count != 3) throw std::runtime_error("give a model and an image: verdict model.onnx image.ppm");
        Image image = read_ppm(words[2]);

        Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "verdict");
#ifdef _WIN32
        const std::string narrow(words[1]);
        const std::wstring path(narrow.begin(), narrow.end());  // of letters without accents
#else
        const std::string path(words[1]);
#endif
        Ort::Session session(environment, path.c_str(), Ort::SessionOptions{nullptr});  // once, when the program starts
        const std::string limit = said(session, "anomaly.threshold");
        if (limit.empty()) throw std::runtime_error("the model has no threshold. `anomaly export MODEL --threshold X` sets one.");
        const double threshold = std::stod(limit);

        const std::array<int64_t, 4> shape{1, image.height, image.width, 3};
        auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        Ort::Value input = Ort::Value::CreateTensor<uint8_t>(memory, image.pixels.data(), image.pixels.size(), shape.data(),
                                                             shape.size());
        const char* inputs[] = {"images"};
        const char* outputs[] = {"scores"};  // "maps" too: float (1, 1, h, w), where the method has them
        auto results = session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 1);
        const double score = results[0].GetTensorData<float>()[0];
        if (!std::isfinite(score)) throw std::runtime_error("the score is no number: there is no verdict.");

        // The share of normal images that look at least this odd, as `anomaly predict` computes it.
        std::vector<double> normal;
        std::istringstream scores(said(session, "anomaly.scores"));
        for (std::string one; scores >> one;) normal.push_back(std::stod(one));
        const auto least = std::lower_bound(normal.begin(), normal.end(), score);
        const double p_value = (1.0 + static_cast<double>(normal.end() - least)) / (1.0 + static_cast<double>(normal.size()));

        const bool is_anomalous = score > threshold;
        std::printf("%s score=%.9g threshold=%.9g p_value=%.4g\n", is_anomalous ? "anomalous" : "normal", score, threshold, p_value);
        return is_anomalous ? 1 : 0;
    } catch (const std::exception& error) {  // never a verdict by mistake
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    }
}
