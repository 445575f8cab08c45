"""journal.py FILE ID: whether `journalctl -o json` of one job has the fields that docs/operations.md promises."""

import json
import sys

entries = [json.loads(line) for line in open(sys.argv[1])]
assert entries, "no entry"
assert all(entry["JOB_ID"] == sys.argv[2] for entry in entries)
for field in ["PHASE", "STEP", "DURATION_MS", "TEMP_C", "MESSAGE_ID", "TARGET", "PRIORITY", "SYSLOG_IDENTIFIER"]:
    with_field = [entry for entry in entries if field in entry]
    assert with_field, f"no entry has {field}"
    print(f"{field}: {len(with_field)} of {len(entries)} entries, such as {with_field[-1][field]!r}")
phases = {entry.get("PHASE") for entry in entries}
assert {"start", "text_encoder", "unet", "vae_decoder"} <= phases, phases
messages = [entry["MESSAGE"] for entry in entries]
assert "job accepted" in messages and "job done" in messages, messages
