"""Kernels for GPUs as the CPU can run them: what lanes tell one another is worked out anew by each of them."""

import re

_LOOP = re.compile(r"scf\.parallel \((%\w+)\) = \((%\w+)\) to \((%\w+)\) step \((%\w+)\) \{")
_PREFIX = re.compile(r"(%\d+):2 = gossamer\.lane_prefix (%\d+) : i32")
_OPERATION = re.compile(r"(%\d+) = (.*)")
_NAME = re.compile(r"%\w+")


def without_prefixes(text: str) -> str:
    """Returns the text of a kernel with a loop over all lanes for every `gossamer.lane_prefix`."""
    lines: list[str] = []
    for line in text.splitlines():
        found = _PREFIX.fullmatch(line.strip())
        lines += _loop(lines, line, *found.groups()) if found else [line]
    return "\n".join(lines) + "\n"


def _loop(before: list[str], line: str, result: str, value: str) -> list[str]:
    depth = _depth(line)
    head = max(n for n, one in enumerate(before) if _depth(one) < depth)
    loop = _LOOP.search(before[head])
    assert loop, before[head]
    lane, zero, upper, one = loop.groups()
    number = result[1:]
    names = {lane: f"%lane_{number}"}
    wanted, statements = {value}, []
    for inner in reversed(before[head + 1 :]):
        operation = _OPERATION.fullmatch(inner.strip())
        if operation is None or _depth(inner) != depth or operation[1] not in wanted:
            continue
        wanted.update(_NAME.findall(operation[2]))
        names[operation[1]] = f"%of_{number}_{operation[1][1:]}"
        statements.append(inner.strip())

    def renamed(statement: str) -> str:
        return _NAME.sub(lambda name: names.get(name[0], name[0]), statement)

    own, is_before = f"%own_{number}", f"%before_{number}"
    carried, sums = (f"%sum_{number}_{n}" for n in range(2)), [f"%next_{number}_{n}" for n in range(3)]
    first, second = carried
    none = f"%none_{number}"
    body = [
        *map(renamed, reversed(statements)),
        f"{own} = arith.addi {renamed(value)}, {none} : i32",
        f"{is_before} = arith.cmpi slt, {names[lane]}, {lane} : index",
        f"{sums[0]} = arith.select {is_before}, {own}, {none} : i32",
        f"{sums[1]} = arith.addi {first}, {sums[0]} : i32",
        f"{sums[2]} = arith.addi {second}, {own} : i32",
        f"scf.yield {sums[1]}, {sums[2]} : i32, i32",
    ]
    indent = " " * depth
    return [
        f"{indent}{none} = arith.constant 0 : i32",
        f"{indent}{result}:2 = scf.for {names[lane]} = {zero} to {upper} step {one} "
        f"iter_args({first} = {none}, {second} = {none}) -> (i32, i32) {{",
        *(f"{indent}  {statement}" for statement in body),
        f"{indent}}}",
    ]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
