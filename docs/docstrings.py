"""What the API pages make of the docstrings: griffe reads them, here the house style is made known.

- Public is what a package lists in ``__all__``; it is shown where it is written, once. A few
  modules are imported by their own names.
- The fields of a NamedTuple stand in a block as in the source, their comments beside them.
- <a, b> is text, not HTML.
- Sections (Args, Returns, Raises) follow each other without blank lines; what stands under Returns
  is a text, and its type is the annotation.
"""

import re
import textwrap

import griffe

BY_NAME = ("initializers", "memory_tasks")
SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Attributes|Returns|Raises):\n)")
FILES = re.compile(r"^(?=\w+(?:\.py|/) +\S)", re.MULTILINE)
TAG = re.compile(r"^    .*|`[^`]*`|<(?=[^\W\d]|/)", re.MULTILINE)  # the last, not within the others
RETURNS = re.compile(r"^Returns:\n +", re.MULTILINE)


class HouseStyle(griffe.Extension):
    """Prepare what griffe has read for mkdocstrings."""

    def on_instance(self, *, obj, **_) -> None:
        """Part the sections of a docstring; a list of files is a block."""
        if obj.docstring:
            text = SECTION.sub("\n\n", obj.docstring.value)
            text = TAG.sub(lambda match: match[0] if len(match[0]) > 1 else "&lt;", text)
            obj.docstring.value = FILES.sub("    ", text) if obj.is_module else text

    def on_function_instance(self, *, func, **_) -> None:
        """Write the type before the text, where griffe looks for it."""
        if func.docstring and func.returns:
            text = func.docstring.value
            func.docstring.value = RETURNS.sub(rf"\g<0>{func.returns}: ", text)

    def on_class_members(self, *, cls, **_) -> None:
        """Show fields as they are written, unless the docstring lists them."""
        fields = [
            member
            for member in cls.members.values()
            if member.is_attribute and member.annotation and "property" not in member.labels
        ]
        for field in fields:
            field.public = False
        text = cls.docstring.value if cls.docstring else ""
        if fields and "Attributes:" not in text:
            lines = cls.lines_collection[cls.filepath]
            shown = lines[fields[0].lineno - 1 : fields[-1].endlineno]
            block = textwrap.dedent("\n".join(shown))
            cls.docstring = griffe.Docstring(f"{text}\n\n```python\n{block}\n```", parent=cls)

    def on_package(self, *, pkg, **_) -> None:
        """Hide what a package has not in its ``__all__``, and its second mentions."""
        for room in [pkg, *pkg.members.values()]:
            if room.is_alias or not room.is_module or not room.exports:
                continue
            exported = {str(name) for name in room.exports}
            for member in room.members.values():
                if member.is_alias:
                    member.public = False
                elif room is not pkg and member.is_module and member.name not in BY_NAME:
                    for name, inner in member.members.items():
                        is_listed = name in exported or member.name in exported
                        inner.public = is_listed and not name.startswith("_") and not inner.is_alias
