"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, DatasetSpec

MVTEC = DatasetSpec(
    target="anomaly_datasets.mvtec:MVTecData",
    config="anomaly_datasets.config:MVTecConfig",
    summary="MVTec AD: 15 objects and textures, pixel masks",
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    license="CC BY-NC-SA 4.0",
    noncommercial=True,
)
VISA = DatasetSpec(
    target="anomaly_datasets.visa:VisAData",
    config="anomaly_datasets.config:VisAConfig",
    summary="VisA: 12 objects, pixel masks",
    homepage="https://github.com/amazon-science/spot-diff",
    license="CC BY 4.0",
)
BTAD = DatasetSpec(
    target="anomaly_datasets.btad:BTADData",
    config="anomaly_datasets.config:BTADConfig",
    summary="BTAD: 3 industrial products, pixel masks",
    homepage="https://github.com/pankajmishra000/VT-ADL",
    license="CC BY-NC-SA 4.0",
    noncommercial=True,
)
MVTEC_LOCO = DatasetSpec(
    target="anomaly_datasets.mvtec_loco:MVTecLOCOData",
    config="anomaly_datasets.config:MVTecLOCOConfig",
    summary="MVTec LOCO AD: 5 categories with logical and structural anomalies, several pixel masks an image",
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    license="CC BY-NC-SA 4.0",
    noncommercial=True,
)
MVTEC_AD2 = DatasetSpec(
    target="anomaly_datasets.mvtec_ad2:MVTecAD2Data",
    config="anomaly_datasets.config:MVTecAD2Config",
    summary="MVTec AD 2: 8 categories under changing light, pixel masks, and two secret test sets for a server",
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
    license="CC BY-NC-SA 4.0",
    noncommercial=True,
)
REAL_IAD = DatasetSpec(
    target="anomaly_datasets.real_iad:RealIADData",
    config="anomaly_datasets.config:RealIADConfig",
    summary="Real-IAD: 30 kinds of small parts, five views an object, pixel masks",
    homepage="https://realiad4ad.github.io/Real-IAD/",
    license="CC BY-NC-SA 4.0",
    noncommercial=True,
)
ELPV = DatasetSpec(
    target="anomaly_datasets.elpv:ELPVData",
    config="anomaly_datasets.config:ELPVConfig",
    summary="ELPV: electroluminescence images of solar cells, no masks",
    homepage="https://github.com/zae-bayern/elpv-dataset",
    license="CC BY-NC-SA 4.0",
    noncommercial=True,
)
MAGNETIC_TILE = DatasetSpec(
    target="anomaly_datasets.magnetic_tile:MagneticTileData",
    config="anomaly_datasets.config:MagneticTileConfig",
    summary="magnetic tiles under six exposures: 952 good, 392 of five kinds of defect, pixel masks",
    homepage="https://github.com/abin24/Magnetic-tile-defect-datasets.",
    license="none stated: cite the paper",
)
DEEP_PCB = DatasetSpec(
    target="anomaly_datasets.deep_pcb:DeepPCBData",
    config="anomaly_datasets.config:DeepPCBConfig",
    summary="DeepPCB: 1,500 pairs of a defect-free template and a tested board, boxes of six kinds of defect",
    homepage="https://github.com/tangsanli5201/DeepPCB",
    license="MIT; its page asks for research use only",
)
MPDD = DatasetSpec(
    target="anomaly_datasets.mpdd:MPDDData",
    config="anomaly_datasets.config:MPDDConfig",
    summary="MPDD: 6 kinds of metal parts, pixel masks",
    homepage="https://github.com/stepanje/MPDD",
    license="none stated: ask the authors",
)
DAGM = DatasetSpec(
    target="anomaly_datasets.dagm:DAGMData",
    config="anomaly_datasets.config:DAGMConfig",
    summary="DAGM 2007: 10 generated textures, an ellipse around each defect",
    homepage="https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
    license="none stated",
)
KSDD2 = DatasetSpec(
    target="anomaly_datasets.ksdd2:KSDD2Data",
    config="anomaly_datasets.config:KSDD2Config",
    summary="Kolektor SDD2: one coated surface, pixel masks",
    homepage="https://www.vicos.si/resources/kolektorsdd2/",
    license="CC BY-NC-SA 4.0",
    noncommercial=True,
)
DTD = DatasetSpec(
    target="anomaly_datasets.dtd:DTDData",
    config="anomaly_datasets.config:DTDConfig",
    summary="DTD: 47 textures, one against the rest; the texture images of draem",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    license="for research purposes",
    noncommercial=True,
)
FOLDER = DatasetSpec(
    target="anomaly_datasets.folder:FolderData",
    config="anomaly_datasets.config:FolderConfig",
    summary="your own images: folders of normal and abnormal ones, trees with train and test, a list, a zip",
)
SAMPLE = DatasetSpec(
    target="anomaly_datasets.sample:SampleData",
    config="anomaly_datasets.config:SampleConfig",
    summary="generated textures, objects and a kit of parts, with defects and pixel masks: no download, no licence",
    license="none: generated",
)
DATA = CommandSpec(target="anomaly_datasets.commands:data", summary="Verify and prepare data sets on disk.")
SUBMIT = CommandSpec(
    target="anomaly_datasets.submit:submit", summary="Write what MVTec AD 2's evaluation server judges, from finished runs."
)
