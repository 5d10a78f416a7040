#!/usr/bin/env python3
"""Asks a running service what its OpenAPI document says can be asked, thousands of times, as schemathesis makes it up.

    tests/schemathesis/run.py [--seconds N] [--seed N] [PROGRAM]

Starts PROGRAM (target/debug/tenantry) on an embedded database and a directory of their own, signs an organization up, and
lets schemathesis loose on it three times: with the token of a member, of an admin and of an operator, N seconds each (60).
It fails when an answer is a 5xx, or has a status, a type, a header or a body that the document does not have. Real ids take
turns with made-up ones (`hooks.py`). Needs Python 3.10; what it installs goes into target/schemathesis.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = HERE / "requirements.txt"
# None of the examples in the document: whoever guesses it deletes himself.
PASSWORD = "forty tin accordions"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# What a role is let loose on. Streams go on for ever.
ROLES = {
    "member": ["--exclude-path-regex=^/api/admin/|/stream/$"],
    "admin": ["--exclude-path-regex=^/api/admin/|/stream/$"],
    "operator": ["--include-path-regex=^/api/admin/"],
}


def schemathesis():
    """The program, installed once for each content of requirements.txt."""
    home = ROOT / "target" / "schemathesis"
    installed, wanted = home / "installed", REQUIREMENTS.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin/pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
        installed.write_text(wanted)
    return home / "bin/schemathesis"


class Service:
    """A running service, and what is known of it."""

    def __init__(self, program, home):
        self.program, self.home = program, home
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TENANTRY_")}
        self.environment |= {
            "TENANTRY_DATA_DIR": str(home / "data"),
            "TENANTRY_LISTEN": "127.0.0.1:0",
            "TENANTRY_RATE_LIMITS": "off",
            "TENANTRY_LOG": "warn,tenantry=info",
            "TENANTRY_LOG_FORMAT": "json",
        }
        self.log = home / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([program, "serve"], env=self.environment, stdout=log, stderr=log, cwd=home)
        self.url = self.wait_for(r"http://localhost:\d+")

    def wait_for(self, pattern):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(pattern, self.log.read_text()):
                return found[0].replace("localhost", "127.0.0.1")
            time.sleep(0.1)
        raise SystemExit(f"the service does not say where it listens:\n{self.log.read_text()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def ask(self, method, path, body=None, token=None, host="acme.localhost"):
        request = urllib.request.Request(self.url + path, method=method, headers={"Host": host})
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def command(self, *arguments, stdin=""):
        command = [self.program, "--json", *arguments]
        done = subprocess.run(command, env=self.environment, input=stdin, capture_output=True, text=True, cwd=self.home)
        if done.returncode:
            raise SystemExit(f"{arguments}: {done.stderr}")
        return json.loads(done.stdout)

    def token_mailed(self, address):
        """The token in the newest mail to this address."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for mail in sorted((self.home / "data" / "mail").glob("*.eml"), reverse=True):
                text = mail.read_text().replace("=\n", "").replace("=3D", "=")
                if f"To: {address}" in text and (found := re.search(r"token=([\w-]+)", text)):
                    return found[1]
            time.sleep(0.1)
        raise SystemExit(f"no mail came to {address}")


def people(service):
    """Signs an organization up, with a member and something to see; and an operator. Returns how each of them logs in, and
    what he is to leave alone because he could ask for nothing without it."""
    service.ask(
        "POST",
        "/api/sign_up/tenant/",
        {"organization": "Acme", "username": "ada", "email": "ada@acme.example", "password": PASSWORD},
        host="localhost",
    )
    ada = service.ask("POST", "/api/login/", {"username": "ada", "password": PASSWORD})["token"]
    logins = {}
    for role in ["member", "admin", "member"]:
        # The first of a role is the one who asks.
        email = f"{role}{len(logins)}@acme.example"
        service.ask("POST", "/api/invitations/", {"email": email, "role": role}, ada)
        accepted = {"token": service.token_mailed(email), "username": email.partition("@")[0], "password": PASSWORD}
        user = service.ask("POST", "/api/invitations/accept/", accepted)["user"]["pk"]
        wall = f"/api/users/{user}/comments/"
        comment = service.ask("POST", wall, {"body": "Hello @member0"}, ada)
        service.ask("POST", wall, {"body": "Hello @ada", "parent": comment["id"]}, ada)
        login = {"email": email, "password": PASSWORD, "host": "acme.localhost", "own": [user]}
        logins.setdefault(role, login)
    service.ask("POST", "/api/invitations/", {"email": "eve@acme.example", "role": "member"}, ada)
    operator = service.command("operator", "create", "ops@example.com", stdin=PASSWORD)
    key = operator["api_key"]
    own = [it["id"] for it in service.ask("GET", "/api/admin/api_keys/", token=key, host="localhost")["results"]]
    logins["operator"] = {"token": key, "host": "localhost", "own": [operator["id"], *own]}
    service.command("operator", "create", "other@example.com", stdin=PASSWORD)
    for slug in ["beta", "gamma"]:
        service.command("tenant", "create", f"--name={slug}", f"--owner-email=owner@{slug}.example", stdin=PASSWORD)
    return logins


def tell(answers):
    """How many answers there were of each status, and which operations never succeeded."""
    statuses = collections.Counter()
    for _, status, times in answers:
        statuses[status] += times
    print(", ".join(f"{status}: {times}" for status, times in sorted(statuses.items())))
    succeeded = {operation for operation, status, _ in answers if status < 300}
    never = sorted({operation for operation, _, _ in answers} - succeeded)
    print(f"{len(succeeded)} operations succeeded, {len(never)} never did:", *never, sep="\n  ", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", type=pathlib.Path, default=ROOT / "target/debug/tenantry")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", choices=ROLES, action="append")
    options = parser.parse_args()
    tester = schemathesis()
    failed = []
    with tempfile.TemporaryDirectory(prefix="tenantry-schemathesis-") as home:
        # As root, PostgreSQL runs as another user, who has to get in.
        os.chmod(home, 0o755)
        service = Service(options.program.resolve(), pathlib.Path(home))
        try:
            logins = people(service)
            for role in options.role or ROLES:
                print(f"\n== as {role}", flush=True)
                answers = pathlib.Path(home) / f"{role}.json"
                environment = os.environ | {
                    "SCHEMATHESIS_HOOKS": "hooks",
                    "PYTHONPATH": str(HERE),
                    "TENANTRY_URL": service.url,
                    "TENANTRY_LOGIN": json.dumps(logins[role]),
                    "TENANTRY_ANSWERS": str(answers),
                }
                done = subprocess.run(
                    [
                        tester,
                        "run",
                        ROOT / "tests/openapi.json",
                        f"--url={service.url}",
                        f"--checks={','.join(CHECKS)}",
                        f"--max-time={options.seconds}",
                        f"--seed={options.seed}",
                        "--phases=examples,coverage,fuzzing",
                        "--continue-on-failure",
                        "--generation-database=none",
                        "--request-timeout=20",
                        "--suppress-health-check=all",
                        "--warnings=off",
                        *ROLES[role],
                    ],
                    env=environment,
                    cwd=home,
                )
                tell(json.loads(answers.read_text()))
                if done.returncode:
                    failed.append(role)
        finally:
            code = service.stop()
        said = [line for line in service.log.read_text().splitlines() if '"level":"ERROR"' in line]
        if code or said:
            failed.append("the log")
            print(f"the service ended with {code} and said:", *said[:20], sep="\n")
    print("failed: " + ", ".join(failed) if failed else "no answer was outside the document")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
