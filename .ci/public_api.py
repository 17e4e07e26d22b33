#!/usr/bin/env python3
"""The public surface of the embeddable crates, from rustdoc's JSON: what it is, and that no dependency's type is in it.

    .ci/public_api.py            fail when a signature names a type of another crate than ours, std and serde's traits
    .ci/public_api.py --write    the same, then write CRATE/public-api.txt for each
    .ci/public_api.py --check    the same, then fail when the surface is another one than in those files

A changed file is a decision: additions are minor, everything else breaks whoever embeds. Rustdoc's JSON is unstable, so this
asks the stable compiler for it by RUSTC_BOOTSTRAP, for rustdoc alone.
"""

import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES = {"ledger-core": "core", "ledger": "ledger"}
# serde's traits are part of the surface on purpose: its version 1 is.
ALLOWED = {"std", "core", "alloc", "ledger", "ledger_core", "serde_core", "serde"}
FORMATS = range(45, 60)


def documents():
    """Rustdoc's JSON of each crate."""
    with tempfile.TemporaryDirectory() as work:
        rustdoc = pathlib.Path(work, "rustdoc")
        rustdoc.write_text('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@" -Z unstable-options --output-format json --document-hidden-items\n')
        rustdoc.chmod(rustdoc.stat().st_mode | stat.S_IXUSR)
        packages = [word for name in CRATES for word in ("-p", name)]
        command = ["cargo", "doc", "--quiet", "--no-deps", "--lib", "--locked", *packages]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "RUSTDOC": str(rustdoc)}, check=True)
    metadata = ["cargo", "metadata", "--format-version=1", "--no-deps"]
    target = json.loads(subprocess.run(metadata, cwd=ROOT, check=True, capture_output=True).stdout)["target_directory"]
    for name, folder in CRATES.items():
        document = json.loads(pathlib.Path(target, "doc", name.replace("-", "_") + ".json").read_text())
        if document["format_version"] not in FORMATS:
            sys.exit(f"rustdoc's JSON has format {document['format_version']}; this program knows {FORMATS}: look at it anew")
        yield name, folder, document


class Surface:
    """One crate's public items as lines of text, and the foreign types that its signatures name."""

    def __init__(self, document):
        self.index = document["index"]
        self.paths = document["paths"]
        self.crates = {int(key): value["name"] for key, value in document["external_crates"].items()}
        self.lines = set()
        self.leaks = set()
        self.seen = set()
        root = self.index[str(document["root"])]
        self.module(root, root["name"])

    # Types.

    def path(self, node):
        target = self.paths.get(str(node.get("id")))
        if target and target["crate_id"] != 0:
            crate = self.crates[target["crate_id"]]
            if crate not in ALLOWED:
                self.leaks.add((crate, "::".join(target["path"]), self.at))
        name = node.get("path") or node.get("name")
        return name.split("::")[-1] + self.arguments(node.get("args"))

    def arguments(self, args):
        if not args:
            return ""
        if "parenthesized" in args:
            inputs = ", ".join(map(self.type, args["parenthesized"]["inputs"]))
            output = args["parenthesized"]["output"]
            return f"({inputs})" + (f" -> {self.type(output)}" if output else "")
        parts = []
        for arg in args["angle_bracketed"]["args"]:
            kind, value = next(iter(arg.items())) if isinstance(arg, dict) else ("infer", None)
            parts.append(value if kind == "lifetime" else self.type(value) if kind == "type" else "_" if value is None else value["expr"])
        for bound in args["angle_bracketed"]["constraints"]:
            kind, value = next(iter(bound["binding"].items()))
            parts.append(bound["name"] + (f" = {self.term(value)}" if kind == "equality" else f": {self.bounds(value)}"))
        return f"<{', '.join(parts)}>" if parts else ""

    def term(self, term):
        return self.type(term["type"]) if "type" in term else term["constant"]["expr"]

    def bounds(self, bounds):
        texts = []
        for bound in bounds:
            if "trait_bound" in bound:
                modifier = "?" if bound["trait_bound"]["modifier"] == "maybe" else ""
                texts.append(modifier + self.path(bound["trait_bound"]["trait"]))
            elif "outlives" in bound:
                texts.append(bound["outlives"])
        return " + ".join(texts)

    def type(self, node):
        if not isinstance(node, dict):
            return "_"
        kind, value = next(iter(node.items()))
        if kind == "resolved_path":
            return self.path(value)
        if kind in ("generic", "primitive"):
            return value
        if kind == "borrowed_ref":
            lifetime = f"{value['lifetime']} " if value["lifetime"] else ""
            return f"&{lifetime}{'mut ' if value['is_mutable'] else ''}{self.type(value['type'])}"
        if kind == "tuple":
            return f"({', '.join(map(self.type, value))})"
        if kind == "slice":
            return f"[{self.type(value)}]"
        if kind == "array":
            return f"[{self.type(value['type'])}; {value['len']}]"
        if kind == "impl_trait":
            return f"impl {self.bounds(value)}"
        if kind == "dyn_trait":
            traits = [self.path(each["trait"]) for each in value["traits"]]
            return "dyn " + " + ".join(traits + ([value["lifetime"]] if value["lifetime"] else []))
        if kind == "qualified_path":
            of = f" as {self.path(value['trait'])}" if value["trait"] else ""
            return f"<{self.type(value['self_type'])}{of}>::{value['name']}"
        if kind == "function_pointer":
            return "fn" + self.signature(value["sig"])
        return kind

    def signature(self, sig):
        inputs = ", ".join(f"{name}: {self.type(of)}" if name != "self" else f"self: {self.type(of)}" for name, of in sig["inputs"])
        return f"({inputs})" + (f" -> {self.type(sig['output'])}" if sig["output"] else "")

    def generics(self, generics):
        params = []
        for param in generics["params"]:
            kind, value = next(iter(param["kind"].items()))
            if kind == "type" and value["is_synthetic"]:
                continue
            bounds = self.bounds(value["bounds"]) if kind == "type" else ""
            params.append(param["name"] + (f": {bounds}" if bounds else ""))
        where = []
        for predicate in generics["where_predicates"]:
            if "bound_predicate" in predicate:
                value = predicate["bound_predicate"]
                where.append(f"{self.type(value['type'])}: {self.bounds(value['bounds'])}")
        return (f"<{', '.join(params)}>" if params else ""), (f" where {', '.join(where)}" if where else "")

    # Items.

    def say(self, line):
        self.lines.add(line)

    def module(self, item, path):
        for child in item["inner"]["module"]["items"]:
            self.item(child, path)

    def item(self, id, path, name=None):
        item = self.index.get(str(id))
        if item is None or item["visibility"] not in ("public", "default"):
            return
        # What is hidden is not offered, unless it is named elsewhere.
        if name is None and any("hidden" in str(a) for a in item["attrs"]):
            return
        kind, inner = next(iter(item["inner"].items()))
        if kind == "use":
            target = self.index.get(str(inner["id"]))
            if target is None:
                self.say(f"{path}: pub use {inner['source']} as {inner['name']}")
            elif inner["is_glob"]:
                self.module(target, path)
            else:
                self.item(inner["id"], path, inner["name"])
            return
        self.at = here = f"{path}::{name or item['name']}"
        if kind == "module":
            self.module(item, here)
            return
        if kind in ("function", "constant", "type_alias", "static", "assoc_const", "assoc_type"):
            self.member(kind, inner, here)
            return
        if (here, id) in self.seen:
            return
        self.seen.add((here, id))
        marks = "".join(" #[non_exhaustive]" for a in item["attrs"] if "non_exhaustive" in str(a))
        params, where = self.generics(inner["generics"]) if "generics" in inner else ("", "")
        if kind == "trait":
            bounds = self.bounds(inner["bounds"])
            self.say(f"{here}: trait{params}{': ' + bounds if bounds else ''}{where}")
            for child in inner["items"]:
                child = self.index[str(child)]
                self.at = f"{here}::{child['name']}"
                child_kind, child_inner = next(iter(child["inner"].items()))
                self.member(child_kind, child_inner, self.at)
            return
        if kind not in ("struct", "enum"):
            self.say(f"{here}: {kind}{marks}")
            return
        self.say(f"{here}: {kind}{params}{where}{marks}")
        for field in self.fields(inner.get("kind")) if kind == "struct" else inner["variants"]:
            self.field(field, here)
        traits = {self.block(block, here) for block in inner["impls"]} - {None, "StructuralPartialEq", "TrivialClone"}
        if traits:
            self.say(f"{here}: impl {', '.join(sorted(traits))}")

    def fields(self, shape):
        if isinstance(shape, dict) and "plain" in shape:
            return shape["plain"]["fields"]
        return [each for each in shape["tuple"] if each is not None] if isinstance(shape, dict) and "tuple" in shape else []

    def field(self, id, here):
        item = self.index.get(str(id))
        if item is None:
            return
        self.at = f"{here}::{item['name']}"
        kind, inner = next(iter(item["inner"].items()))
        if kind == "struct_field":
            if item["visibility"] in ("public", "default"):
                self.say(f"{self.at}: {self.type(inner)}")
            return
        self.say(f"{self.at}: variant")
        shape = inner["kind"]
        if isinstance(shape, dict):
            fields = shape["tuple"] if "tuple" in shape else shape["struct"]["fields"]
            for field in fields:
                if field is not None:
                    self.field(field, f"{here}::{item['name']}")

    def block(self, id, here):
        """The trait that a block implements; `None` for inherent ones, whose items are said."""
        block = self.index.get(str(id))
        if block is None:
            return None
        inner = block["inner"]["impl"]
        if inner["is_synthetic"] or inner["blanket_impl"]:
            return None
        self.at = here
        if inner["trait"]:
            return self.path(inner["trait"])
        for child in inner["items"]:
            self.item(child, here)
        return None

    def member(self, kind, inner, here):
        if kind == "function":
            params, where = self.generics(inner["generics"])
            of = "const fn" if inner["header"]["is_const"] else "async fn" if inner["header"]["is_async"] else "fn"
            self.say(f"{here}: {of}{params}{self.signature(inner['sig'])}{where}")
        elif kind in ("constant", "assoc_const", "static"):
            self.say(f"{here}: const {self.type(inner['type'])}")
        elif kind == "type_alias":
            self.say(f"{here}: type = {self.type(inner['type'])}")
        else:
            self.say(f"{here}: type: {self.bounds(inner.get('bounds', []))}")


def main():
    mode = sys.argv[1] if len(sys.argv) > 1 else "--leaks"
    if mode not in ("--leaks", "--write", "--check"):
        sys.exit(__doc__)
    bad = False
    for name, folder, document in documents():
        surface = Surface(document)
        for crate, found, at in sorted(surface.leaks):
            print(f"{at} names {found} of {crate}", file=sys.stderr)
            bad = True
        text = "\n".join(sorted(surface.lines)) + "\n"
        golden = ROOT / folder / "public-api.txt"
        if mode == "--write":
            golden.write_text(text)
        elif mode == "--check":
            known = set(golden.read_text().splitlines())
            for line in sorted(known - surface.lines):
                print(f"- {line}", file=sys.stderr)
            for line in sorted(surface.lines - known):
                print(f"+ {line}", file=sys.stderr)
            bad |= known != surface.lines
        print(f"{name}: {len(surface.lines)} public items, {len(surface.leaks)} types of dependencies among them")
    sys.exit(1 if bad else 0)


main()
