"""Asks advisory services about the locked packages; 0 clean, 1 found something, 3 not all asked.

pip-audit says "No known vulnerabilities found" and ends with 0 when a service knows none of the
packages, or cannot be reached: that is no answer, and here it is not taken for one.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_SERVICES = ("pypi", "osv")
_LOCK = Path("requirements.lock")


def main() -> int:
    """Ask one service after the other until one has answered for all packages."""
    answered: list[dict[str, Any]] = []
    for service in _SERVICES:
        answered = asked(service)
        if answered and not any("skip_reason" in package for package in answered):
            break
    return told(answered)


def asked(service: str) -> list[dict[str, Any]]:
    """What a service says about each package; nothing where it could not be asked."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(_LOCK), "--require-hashes"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command += ["--vulnerability-service", service]
    run = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own tool
    try:
        packages: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError):
        return []
    return packages


def told(packages: list[dict[str, Any]]) -> int:
    """Say what is known; the exit code."""
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    found = [(p["name"], p["version"], v) for p in packages for v in p.get("vulns", ())]
    for name, number, advisory in found:
        fixed = ", ".join(advisory.get("fix_versions", ())) or "no version yet"
        print(f"{name} {number}: {advisory['id']}; mended in {fixed}")
    if len(skipped) == len(packages):
        print("NOT AUDITED: no advisory service can be reached, or none knows these packages")
    elif skipped:
        print(f"NOT AUDITED: {len(skipped)} of {len(packages)} packages: {', '.join(skipped)}")
    elif not found:
        print(f"no advisory is known for any of the {len(packages)} packages")
    return 1 if found else 3 if skipped or not packages else 0


if __name__ == "__main__":
    sys.exit(main())
