"""Pages, login, health and metrics, over real HTTP from a real instance."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import Any

import httpx
from foreign.servers import needed
from fuzz.seeds import associate_request
from installation import COMMAND, Installation, wait_until


def explain_last(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [COMMAND.with_name("pylantir"), "explain", "--config", installation.config_path, "--last", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=installation.environment
    )


def test_the_day_the_item_the_sources_and_the_scanners(site: Any) -> None:
    site.start()
    day = site.client.get("/")
    assert day.status_code == 200
    assert all(f"Name, {patient}" in day.text for patient in ("P1", "P2", "P3"))
    assert "Name, P2" not in site.client.get("/", params={"patient": "P1"}).text
    assert "meets the filter" in site.client.get("/", params={"modality": "CT"}).text
    assert "Nothing is scheduled" in site.client.get("/", params={"date": "2001-01-01"}).text
    ((number,),) = site.installation.rows("select id from worklist_items where patient_id = 'P1'")
    item = site.client.get(f"/items/{number}").text
    assert "created" in item
    assert "P1" in item
    assert ">a<" in site.client.get("/sources").text
    answer = site.client.get("/scanners", params={"scanner": "MR1", "patient": "P1"}).text
    assert f"Item {number}" in answer
    assert "appears on MR1" in answer
    # A scanner that nothing is offered to is refused as well: it finds out why it shows nothing.
    assert "Who was refused" not in answer
    with socket.create_connection(("127.0.0.1", site.installation.port), timeout=10) as scanner:
        scanner.sendall(associate_request(calling="<b>MR9", syntax="1.2.840.10008.1.2.2"))
        assert scanner.recv(1) == b"\x02"
    wait_until(lambda: "Who was refused" in site.client.get("/scanners").text, "it is listed")
    refused = site.client.get("/scanners").text
    assert "&lt;b&gt;MR9" in refused
    assert "not in Implicit or Explicit VR Little Endian" in refused
    asked = explain_last(site.installation, "<b>MR9", "--json")
    assert (asked.returncode, json.loads(asked.stdout)["refused"][0]["reason"]) == (1, "presentation contexts")
    everybody = explain_last(site.installation)
    assert everybody.returncode == 0
    assert "not served, " in everybody.stdout
    assert "<b>MR9 at 127.0.0.1: nothing is offered to it" in everybody.stdout
    for path in ("/nothing", "/items/999999", "/items/x", "/items/99999999999999999999", "/sources/", "/login/"):
        assert site.client.get(path).status_code == 404
    assert site.client.post("/").status_code == 405


def test_what_every_answer_says_to_a_browser(site: Any) -> None:
    site.start()
    for path in ("/", "/nothing", "/static/style.css", "/healthz"):
        headers = site.client.get(path).headers
        assert "'unsafe-inline'" not in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    text = site.client.get("/").text
    assert "<script>" not in text
    assert " style=" not in text


def test_without_login_only_this_machine_is_served(site: Any) -> None:
    site.start()
    assert site.client.get("/", headers={"Host": "evil.example"}).status_code == 403
    written = site.client.get("/metrics", headers={"Host": f"localhost:{site.http_port}"})
    assert written.status_code == 200
    promtool = needed("promtool", "prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=written.content, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_login_by_form_basic_and_bearer(site: Any) -> None:
    site.installation.environment |= {"ANNA_PASSWORD": "right horse", "MACHINE_TOKEN": "tok-en-1"}
    site.start(users={"anna": {"password_env": "ANNA_PASSWORD"}}, tokens_env=["MACHINE_TOKEN"])
    client: httpx.Client = site.client
    assert client.get("/?patient=P1").headers["location"] == "/login?next=%2F%3Fpatient%3DP1"
    assert client.get("/healthz").status_code == client.get("/login").status_code == 200
    assert (
        client.get("/metrics").status_code
        == client.get("/dicomweb/modality-scheduled-procedure-steps").status_code
        == 401
    )
    assert client.get("/metrics", headers={"Authorization": "Bearer tok-en-1"}).status_code == 200
    assert client.get("/metrics", auth=("anna", "right horse")).status_code == 200
    wrong = client.post("/login", data={"user": "anna", "password": "wrong", "next": "/sources"})
    assert (wrong.status_code, "not the right user" in wrong.text) == (401, True)
    foreign = {"user": "anna", "password": "right horse", "next": "//evil.example/"}
    assert client.post("/login", data=foreign, headers={"Origin": "http://evil.example"}).status_code == 403
    inside = client.post("/login", data=foreign)
    assert (inside.status_code, inside.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in inside.headers["set-cookie"].split(";")}
    assert "Log out anna" in client.get("/").text
    assert client.get("/metrics").status_code == 401
    client.post("/logout")
    assert client.get("/").status_code == 303
    for _ in range(6):
        last = client.post("/login", data={"user": "anna", "password": "wrong"})
    assert last.status_code == 429
    assert "right horse" not in site.installation.log()
    assert "tok-en-1" not in site.installation.log()


def test_ready_says_why_not(site: Any) -> None:
    site.start()
    wait_until(lambda: site.client.get("/readyz").json() == {"ready": True, "reasons": []}, "it is ready")
    (site.installation.folder / "a.csv").unlink()

    def reasons() -> Any:
        answer = site.client.get("/readyz")
        return answer.json()["reasons"] if answer.status_code == 503 else None

    assert any(reason.startswith("a: ") for reason in wait_until(reasons, "it is not ready"))
    assert "tried again by itself" in site.client.get("/sources").text


def test_the_process_is_supervised_like_the_others(site: Any) -> None:
    site.start()
    pid = site.installation.process("web")["pid"]
    os.kill(pid, signal.SIGKILL)
    successor = site.installation.wait_for_successor("web", pid)
    assert site.client.get("/").status_code == 200
    assert site.installation.command("restart", "web").returncode == 0
    site.installation.wait_for_successor("web", successor)
    assert site.client.get("/").status_code == 200
    assert site.installation.terminate() == 0


def test_a_section_that_is_taken_out_ends_the_process(site: Any) -> None:
    site.start()
    configuration = site.installation.config_path.read_text(encoding="utf-8")
    site.installation.config_path.write_text(configuration.replace('"http": {', '"_http": {'), encoding="utf-8")
    assert site.installation.command("reload").returncode == 0
    names = [process["name"] for process in site.installation.status()["processes"]]
    assert "web" not in names
    wait_until(lambda: not is_served(site.client), "nobody listens")


def is_served(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False
