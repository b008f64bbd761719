"""What is answered, as JSON Schema, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from anomaly_serve.records import MARKS

Schema = dict[str, Any]


def nullable(kind: str, **more: Any) -> Schema:
    """A value of a type, or null."""
    return {"type": [kind, "null"], **more}


def closed(properties: Schema, *optional: str) -> Schema:
    """An object with these keys and no others, all of them there but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def refers(name: str) -> Schema:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def rows(of: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": of}


_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "number", "description": "seconds since 1970, UTC"}
_POINT: Schema = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}

_REGION = closed(
    {
        "box": {
            "type": "array",
            "items": _WHOLE,
            "minItems": 4,
            "maxItems": 4,
            "description": "left, top, right, bottom in pixels of the upright image; right and bottom are not in it",
        },
        "area": {"type": "number", "description": "pixels, without holes"},
        "area_mm2": nullable("number", description="square millimetres, where the scale is known"),
        "peak": {"type": "number", "description": "the greatest map value in it"},
        "peak_at": {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2, "description": "x, y of that pixel"},
        "p_value": nullable("number", description="share of normal images with at least this value somewhere in their map"),
        "polygon": {"type": "array", "items": _POINT, "description": "x, y of its outline, in order, not closed"},
    }
)

_VERDICT = {
    "id": {"type": "string", "pattern": "^[0-9A-Z]{26}$", "description": "sorts by time"},
    "product": _TEXT,
    "version": {"type": "integer", "description": "that judged"},
    "time": _TIME,
    "source": {"type": "string", "description": "the door that it came by"},
    "name": {"type": "string", "description": "what the sender calls the image"},
    "score": {"type": "number", "description": "raw; higher is more anomalous"},
    "p_value": nullable("number", description="share of normal images with at least this score; null without a threshold"),
    "threshold": nullable("number", description="of that moment"),
    "is_anomalous": nullable("boolean", description="score above the threshold; null without one"),
    "regions": {
        "type": ["array", "null"],
        "items": refers("Region"),
        "description": "what exceeds the map threshold, the highest peak first; null where the detector finds none",
    },
    "settings": {"type": "integer", "description": "the number of the settings that held, within the version"},
    "times": {"type": "object", "additionalProperties": _NUMBER, "description": "milliseconds: decode, wait, score"},
    "facts": {"type": "object", "additionalProperties": _NUMBER, "description": "cheap statistics of the image"},
    "mark": {"enum": [*MARKS, None], "description": "what a person said of it"},
    "width": {"type": "integer", "description": "of the upright image"},
    "height": _WHOLE,
}

_MAP = closed(
    {
        "media_type": {"enum": ["image/png", "application/x-npy"]},
        "width": {"type": "integer", "description": "of the map"},
        "height": _WHOLE,
        "low": {"type": "number", "description": "the map value that is black in a PNG"},
        "high": {"type": "number", "description": "the one that is white; mid-grey is the map threshold"},
        "extent": {
            "type": "array",
            "items": _NUMBER,
            "minItems": 4,
            "maxItems": 4,
            "description": "left, top, right, bottom of the map in pixels of the upright image",
        },
        "data": {"type": "string", "contentEncoding": "base64"},
    }
)

_VERSION = closed(
    {
        "number": _WHOLE,
        "parent": nullable("integer", description="the version that it was taught on from"),
        "created": _TIME,
        "who": _TEXT,
        "note": _TEXT,
        "is_active": {"type": "boolean", "description": "whether it judges"},
        "files_removed": nullable("number", description="when its files were removed (seconds since 1970); null: it has them"),
        "files_removed_why": {"type": "string", "description": "to what end, or by whom"},
    }
)

_SETTINGS = closed(
    {
        "number": _WHOLE,
        "threshold": nullable("number"),
        "map_threshold": nullable("number"),
        "false_alarm_rate": {"type": "number", "description": "asked for, or estimated"},
        "promise": {"type": "string", "description": "the rate and its confidence interval, in words"},
        "source": {"type": "string", "description": "where the threshold comes from"},
        "warning": nullable("string", description="what the threshold cannot guarantee"),
        "count": {"type": "integer", "description": "normal images behind it"},
        "least_area": nullable("number", description="pixels that a region must have; null: the detector's own"),
        "time": _TIME,
        "who": _TEXT,
        "why": _TEXT,
    }
)

_PRODUCT = closed(
    {
        "name": _TEXT,
        "active": {"anyOf": [refers("Version"), {"type": "null"}]},
        "settings": {"anyOf": [refers("Settings"), {"type": "null"}]},
        "versions": {"type": "integer", "description": "how many there are"},
        "waiting": {"type": "integer", "description": "images that wait for its detector"},
        "is_ready": {"type": "boolean"},
    }
)

_ERROR = closed(
    {
        "error": closed(
            {
                "code": {"type": "string", "description": "one word for programs, which stays the same"},
                "status": _WHOLE,
                "message": {"type": "string", "description": "what, where, and the next step"},
            }
        ),
        "name": {"type": "string", "description": "of a file in a form"},
    },
    "name",
)

SCHEMAS: Schema = {
    "Error": _ERROR,
    "Region": _REGION,
    "Map": _MAP,
    "Verdict": closed(_VERDICT),
    "Scored": closed({**_VERDICT, "map": {"anyOf": [refers("Map"), {"type": "null"}]}}, "map"),
    "Results": closed({"results": rows({"anyOf": [refers("Scored"), refers("Error")]})}),
    "Verdicts": closed(
        {
            "verdicts": rows(refers("Verdict")),
            "next": nullable("string", description="the next page's before"),
        }
    ),
    "Version": _VERSION,
    "Versions": closed({"versions": rows(refers("Version"))}),
    "Settings": _SETTINGS,
    "SettingsList": closed({"settings": rows(refers("Settings"))}),
    "Product": _PRODUCT,
    "Products": closed({"products": rows(refers("Product"))}),
    "Alive": closed({"status": {"const": "alive"}}),
    "Ready": closed({"status": _TEXT, "products": _WHOLE, "not_ready": rows(_TEXT)}),
}
