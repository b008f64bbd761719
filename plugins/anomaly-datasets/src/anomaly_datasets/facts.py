"""Published facts: categories, counts, layouts and archives of the data sets that have a publisher."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """What a complete copy holds.

    Attributes:
        categories: in the publisher's order.
        totals: images by part: train, good (normal test), bad (anomalous test).
        per_category: (train, good, bad) of each category, where published; empty where only the totals are.
        layout: what stands under the root, in words.
        masked: every anomalous image has a mask.
        validation: normal images that the publisher set aside for validation, by category.
        archive: a direct address of the whole data set, where the publisher offers one.
        sha256, md5: of that archive, whichever is published.
    """

    categories: tuple[str, ...]
    totals: tuple[int, int, int]
    layout: str
    per_category: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    masked: bool = True
    validation: dict[str, int] = field(default_factory=dict)
    archive: str = ""
    sha256: str = ""
    md5: str = ""


MVTEC = Facts(
    categories=tuple(
        "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile toothbrush transistor wood zipper".split()
    ),
    totals=(3629, 467, 1258),
    layout="<category>/{train/good, test/<defect|good>, ground_truth/<defect>/NNN_mask.png}",
    per_category={
        "bottle": (209, 20, 63),
        "cable": (224, 58, 92),
        "capsule": (219, 23, 109),
        "carpet": (280, 28, 89),
        "grid": (264, 21, 57),
        "hazelnut": (391, 40, 70),
        "leather": (245, 32, 92),
        "metal_nut": (220, 22, 93),
        "pill": (267, 26, 141),
        "screw": (320, 41, 119),
        "tile": (230, 33, 84),
        "toothbrush": (60, 12, 30),
        "transistor": (213, 60, 40),
        "wood": (247, 19, 60),
        "zipper": (240, 32, 119),
    },
    archive="https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/"
    "download/420938113-1629960298/mvtec_anomaly_detection.tar.xz",
    sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
)
VISA = Facts(
    categories=tuple("candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum".split()),
    totals=(8659, 962, 1200),
    layout="<category>/Data/{Images/{Normal,Anomaly}, Masks/Anomaly} and split_csv/1cls.csv; or MVTec AD's layout",
    per_category={
        "candle": (900, 100, 100),
        "capsules": (542, 60, 100),
        "cashew": (450, 50, 100),
        "chewinggum": (453, 50, 100),
        "fryum": (450, 50, 100),
        "macaroni1": (900, 100, 100),
        "macaroni2": (900, 100, 100),
        "pcb1": (904, 100, 100),
        "pcb2": (901, 100, 100),
        "pcb3": (905, 101, 100),
        "pcb4": (904, 101, 100),
        "pipe_fryum": (450, 50, 100),
    },
    archive="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
    sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
)
BTAD = Facts(
    categories=("01", "02", "03"),
    totals=(1799, 451, 290),
    layout="BTech_Dataset_transformed/{01,02,03}/{train/ok, test/{ok,ko}, ground_truth/ko}",
    per_category={"01": (400, 21, 49), "02": (399, 30, 200), "03": (1000, 400, 41)},
    archive="https://avires.dimi.uniud.it/papers/btad/btad.zip",
    sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
)
MVTEC_LOCO = Facts(
    categories=("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"),
    totals=(1778, 575, 993),
    layout="<category>/{train/good, validation/good, test/{good,logical_anomalies,structural_anomalies}, "
    "ground_truth/<kind>/NNN/NNN.png, defects_config.json}",
    # Of the anomalous ones, 83, 142, 91, 137 and 108 are logical. The paper counts 354 and 59 normal splicing_connectors, 1,772
    # and 304 in all; users of the published copy count 360 and 60.
    per_category={
        "breakfast_box": (351, 102, 173),
        "juice_bottle": (335, 94, 236),
        "pushpins": (372, 138, 172),
        "screw_bag": (360, 122, 219),
        "splicing_connectors": (360, 119, 193),
    },
    validation={"breakfast_box": 62, "juice_bottle": 54, "pushpins": 69, "screw_bag": 60, "splicing_connectors": 60},
)
# The test images are those of test_public; the others have no published labels.
MVTEC_AD2 = Facts(
    categories=("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts"),
    totals=(2528, 379, 705),
    layout="<category>/{train/good, validation/good, test_public/{good, bad, ground_truth/bad/NNN_<lighting>_mask.png}, "
    "test_private, test_private_mixed}",
    per_category={
        "can": (412, 72, 90),
        "fabric": (387, 66, 90),
        "fruit_jelly": (263, 20, 60),
        "rice": (313, 42, 90),
        "sheet_metal": (137, 24, 90),
        "vial": (291, 35, 105),
        "wallplugs": (293, 60, 90),
        "walnuts": (432, 60, 90),
    },
    validation={
        "can": 46,
        "fabric": 43,
        "fruit_jelly": 37,
        "rice": 35,
        "sheet_metal": 19,
        "vial": 41,
        "wallplugs": 33,
        "walnuts": 48,
    },
)
REAL_IAD = Facts(  # the split of all views; a defect's view without a visible defect counts as normal
    categories=tuple(
        "audiojack bottle_cap button_battery end_cap eraser fire_hood mint mounts pcb phone_battery plastic_nut plastic_plug "
        "porcelain_doll regulator rolled_strip_base sim_card_set switch tape terminalblock toothbrush toy toy_brick "
        "transistor1 u_block usb usb_adaptor vcpill wooden_beads woodstick zipper".split()
    ),
    totals=(36465, 63256, 51329),
    layout="realiad_{1024,512,256}/<category>/{OK,NG/<defect>}/SNNNN/*.jpg and realiad_jsons/<category>.json",
)
# ELPV publishes no split: 588 and 920 normal cells, divided 70/30 as the config's defaults say; 401 ambiguous ones left out.
ELPV = Facts(
    categories=("mono", "poly"),
    totals=(1056, 452, 715),
    layout="labels.csv (path, defect probability, mono or poly) and images/cellNNNN.png",
    per_category={"mono": (412, 176, 313), "poly": (644, 276, 402)},
    masked=False,
)
# No split is published: 952 good tiles, divided as the config's defaults say.
MAGNETIC_TILE = Facts(
    categories=("magnetic_tile",),
    totals=(650, 302, 392),
    layout="MT_{Free,Blowhole,Break,Crack,Fray,Uneven}/Imgs/exp<E>_num_<N>.jpg, a mask of that name with .png beside each",
    per_category={"magnetic_tile": (650, 302, 392)},
)
# Pairs: the templates of 1,000 train; the templates and the tested boards of the other 500 test.
DEEP_PCB = Facts(
    categories=("deep_pcb",),
    totals=(1000, 500, 500),
    layout="PCBData/group<G>/<G>/<N>_{temp,test}.jpg, PCBData/group<G>/<G>_not/<N>.txt, PCBData/{trainval,test}.txt",
    per_category={"deep_pcb": (1000, 500, 500)},
)
DEEP_PCB_GROUPS = tuple("00041 12000 12100 12300 13000 20085 44000 50600 77000 90100 92000".split())
MPDD = Facts(
    categories=tuple("bracket_black bracket_brown bracket_white connector metal_plate tubes".split()),
    totals=(888, 176, 282),
    layout=MVTEC.layout,
    per_category={
        "bracket_black": (289, 32, 47),
        "bracket_brown": (185, 26, 51),
        "bracket_white": (110, 30, 30),
        "connector": (128, 30, 14),
        "metal_plate": (54, 26, 71),
        "tubes": (122, 32, 69),
    },
)
# Each class has as many images in Train as in Test: 575 in the first six, 1,150 in the others. Defective ones do not train.
DAGM = Facts(
    categories=tuple(f"Class{number}" for number in range(1, 11)),
    totals=(7004, 6996, 1054),
    layout="Class<N>/{Train,Test}/NNNN.PNG, Class<N>/{Train,Test}/Label/{NNNN_label.PNG of the defective ones, Labels.txt}",
    per_category={
        "Class1": (496, 504, 71),
        "Class2": (509, 491, 84),
        "Class3": (509, 491, 84),
        "Class4": (493, 507, 68),
        "Class5": (505, 495, 80),
        "Class6": (492, 508, 67),
        "Class7": (1000, 1000, 150),
        "Class8": (1000, 1000, 150),
        "Class9": (1000, 1000, 150),
        "Class10": (1000, 1000, 150),
    },
)
KSDD2 = Facts(
    categories=("ksdd2",),
    totals=(2085, 894, 110),
    layout="{train,test}/NNNNN.png, and a mask NNNNN_GT.png beside each",
    per_category={"ksdd2": (2085, 894, 110)},
)
# One texture against the rest: its train and val images, its test images, and the test images of the 46 others.
TEXTURES = (
    "banded blotchy braided bubbly bumpy chequered cobwebbed cracked crosshatched crystalline dotted fibrous flecked freckled "
    "frilly gauzy grid grooved honeycombed interlaced knitted lacelike lined marbled matted meshed paisley perforated pitted "
    "pleated polka-dotted porous potholed scaly smeared spiralled sprinkled stained stratified striped studded swirly veined "
    "waffled woven wrinkled zigzagged"
)
DTD = Facts(
    categories=tuple(TEXTURES.split()),
    totals=(3760, 1880, 86480),
    layout="images/<texture>/<texture>_NNNN.jpg and labels/{train,val,test}{1..10}.txt",
    per_category=dict.fromkeys(TEXTURES.split(), (80, 40, 1840)),
    masked=False,
    archive="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
    md5="fff73e5086ae6bdbea199a49dfb8a4c1",
)
FACTS = {
    "mvtec": MVTEC,
    "visa": VISA,
    "btad": BTAD,
    "mvtec_loco": MVTEC_LOCO,
    "mvtec_ad2": MVTEC_AD2,
    "real_iad": REAL_IAD,
    "elpv": ELPV,
    "magnetic_tile": MAGNETIC_TILE,
    "deep_pcb": DEEP_PCB,
    "mpdd": MPDD,
    "dagm": DAGM,
    "ksdd2": KSDD2,
    "dtd": DTD,
}
