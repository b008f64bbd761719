// Prints the verdict on an image by a detector that was exported with `anomaly export RUN --format onnx --any-size`.
//
//   dotnet run -- model.onnx image.ppm
//
// The graph resizes, crops and normalises; this program gives it bytes, RGB, row by row.
// Exit status: 0 normal, 1 anomalous, 2 error.

using System.Globalization;
using System.Text;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

try
{
    if (args.Length != 2) throw new ArgumentException("give a model and an image: model.onnx image.ppm");
    var (height, width, pixels) = ReadPpm(args[1]);

    using var session = new InferenceSession(args[0]); // once, when the program starts; it may be used from several threads
    var said = session.ModelMetadata.CustomMetadataMap; // what the file says in plain text beside the graph
    if (!said.TryGetValue("anomaly.threshold", out var limit) || limit.Length == 0)
        throw new InvalidDataException("the model has no threshold. `anomaly export MODEL --threshold X` sets one.");
    var threshold = Number(limit);

    var tensor = new DenseTensor<byte>(pixels, new[] { 1, height, width, 3 });
    using var results = session.Run(
        new[] { NamedOnnxValue.CreateFromTensor("images", tensor) },
        new[] { "scores" }); // "maps" too: float (1, 1, h, w), where the method has them
    double score = results.First().AsEnumerable<float>().First();
    if (!double.IsFinite(score)) throw new InvalidDataException("the score is no number: there is no verdict.");

    // The share of normal images that look at least this odd, as `anomaly predict` computes it.
    var normal = said.GetValueOrDefault("anomaly.scores", "")
        .Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(Number).ToArray();
    var pValue = (1.0 + normal.Count(one => one >= score)) / (1.0 + normal.Length);

    var isAnomalous = score > threshold;
    Console.WriteLine(FormattableString.Invariant(
        $"{(isAnomalous ? "anomalous" : "normal")} score={score:G9} threshold={threshold:G9} p_value={pValue:G4}"));
    return isAnomalous ? 1 : 0;
}
catch (Exception error) // never a verdict by mistake
{
    Console.Error.WriteLine($"error: {error.Message}");
    return 2;
}

static double Number(string text) => double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture);

// A binary PPM (P6, 8 bits), which needs no library. System.Drawing and OpenCvSharp have blue first: swap to red first.
static (int Height, int Width, byte[] Pixels) ReadPpm(string path)
{
    var file = File.ReadAllBytes(path);
    var at = 0;
    string Word()
    {
        while (at < file.Length && (char.IsWhiteSpace((char)file[at]) || file[at] == '#'))
            if (file[at] == '#') { while (at < file.Length && file[at] != '\n') at++; } else at++;
        var start = at;
        while (at < file.Length && !char.IsWhiteSpace((char)file[at])) at++;
        return Encoding.ASCII.GetString(file, start, at - start);
    }
    if (Word() != "P6" || !int.TryParse(Word(), out var width) || !int.TryParse(Word(), out var height) || Word() != "255"
        || width is < 1 or > 65536 || height is < 1 or > 65536)
        throw new InvalidDataException($"{path} is no binary PPM of 8 bits. `convert image.png image.ppm` makes one.");
    at++; // one blank
    var size = (long)height * width * 3;
    if (file.Length - at < size)
        throw new InvalidDataException($"{path} is cut short: it has fewer pixels than it says. There is no verdict.");
    return (height, width, file.AsSpan(at, (int)size).ToArray());
}
