"""Sources are compared with the files that the workflow writes."""

from pathlib import Path

from gpt2_ablations.planning.checks import refers_to


def test_a_source_refers_to_a_path_if_removing_the_path_removes_the_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept, made = tmp_path / "kept", Path("made") / "file"
    kept.write_text("the user's copy")
    # Also if the file does not exist.
    assert refers_to("made/file", made) and refers_to(f"file://{tmp_path}/made/file", made)
    made.parent.mkdir()
    made.symlink_to(kept)
    assert refers_to("./made/file", made) and not refers_to("kept", made)  # removing the link keeps the user's copy
    made.unlink()
    made.write_text("the user's only copy")
    (tmp_path / "link").symlink_to(made.absolute())
    assert refers_to("link", made) and not refers_to("kept", made)
    assert not refers_to("https://example.org/made/file", made) and not refers_to("file://elsewhere/made/file", made)
