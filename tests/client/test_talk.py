"""What is asked, what is asked again, what never is: every rule, with both clients, without waiting."""

from __future__ import annotations

import logging
import ssl

import anyio
import httpx2
import numpy as np
import pytest

from caloray.client import AsyncClient, Client, Patience
from caloray.client.wire import lost
from caloray.errors import AuthError, ConfigError, IntegrityError, NumericalError, ServiceError

ENERGIES = np.linspace(1e3, 5e4, 50)


def equal(found, fake, first=0, energies=ENERGIES, **more):
    expected = fake.showers(first, energies, **more).dense(fake.TOY.n_voxels)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.incident_energies, expected.incident_energies)
    np.testing.assert_array_equal(found.voxels, expected.voxels)
    assert set(found.conditions) == set(expected.conditions)
    for name, values in expected.conditions.items():
        np.testing.assert_array_equal(found.conditions[name], values)


def test_models(caller, service):
    (model,) = caller.models()
    assert (model.name, model.energy_range, model.block_size) == ("toy", (1e3, 5e4), 8)
    assert model.geometry.n_voxels == 36


def test_showers_are_those_of_one_request_however_it_is_cut(caller, service, fake):
    equal(caller.sample(ENERGIES, seed=3), fake, seed=3)
    asked = service.asked()
    assert [(body["first"], len(body["energies"])) for body in asked] == [(0, 16), (16, 16), (32, 18)]
    assert {body["seed"] for body in asked} == {3}
    assert all("model" not in body and "conditions" not in body for body in asked)


def test_the_middle_of_a_sample_is_cut_at_blocks(caller, service, fake):
    equal(caller.sample(ENERGIES, first=5), fake, first=5)
    assert [body["first"] for body in service.asked()] == [5, 24, 40]


def test_small_models_of_large_blocks(caller, service, fake):
    service.models = [fake.facts(max_showers=3)]
    equal(caller.sample(ENERGIES[:7]), fake, energies=ENERGIES[:7])
    assert [len(body["energies"]) for body in service.asked()] == [3, 3, 1]


def test_conditions_numbers_and_lists(caller, service, fake):
    given = {"a": 0.5, "b": np.linspace(0, 1, 20)}
    equal(caller.sample(ENERGIES[:20], conditions=given), fake, energies=ENERGIES[:20], conditions=given)
    assert service.asked()[0]["conditions"]["a"] == 0.5
    assert service.asked()[-1]["conditions"]["b"] == given["b"][-4:].tolist() or len(service.asked()) == 1


def test_the_right_model_among_several(caller, service, fake):
    service.models = [fake.facts("a"), fake.facts("b", max_showers=1)]
    assert len(caller.sample(ENERGIES[:2], model="b")) == 2
    assert [body["model"] for body in service.asked()] == ["b", "b"]
    with pytest.raises(ConfigError, match="several models are served") as caught:
        caller.sample(ENERGIES)
    assert caught.value.hint.endswith("a, b")
    with pytest.raises(ConfigError, match="no model c"):
        caller.sample(ENERGIES, model="c")


def test_batches_come_one_by_one_with_their_header(caller, fake):
    batches = []
    stream = caller.stream(ENERGIES, batches, first=8)
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 8, 2]
    assert batches[1].ids.tolist() == list(range(16, 24))
    assert stream.header.geometry == fake.TOY
    assert (stream.header.bundle, stream.next_shower) == ("d" * 64, 58)


def test_arrow(caller, fake):
    table = caller.sample(ENERGIES, arrow=True)
    assert table.column_names == ["event_id", "incident_energy", "attempts", "voxel", "energy"]
    assert table.num_rows == 50
    batches = []
    caller.stream(ENERGIES[:9], batches, arrow=True)
    assert [batch.num_rows for batch in batches] == [8, 1]
    np.testing.assert_array_equal(
        np.concatenate(batches[0].column("energy").to_numpy(zero_copy_only=False)),
        fake.showers(0, ENERGIES[:8]).energies,
    )


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_faults_of_the_server_are_asked_again(caller, service, fake, clock, status):
    service.play(fake.problem(status, "busy"), fake.send(status))
    equal(caller.sample(ENERGIES[:5]), fake, energies=ENERGIES[:5])
    assert len(service.asked()) == 3
    assert service.asked()[0] == service.asked()[2]
    assert clock.slept == [0.25 * 0.75, 0.5 * 0.75]


def test_retry_after_is_never_undercut(caller, service, fake, clock):
    service.play(fake.problem(503, "busy", retry_after="7"), fake.problem(503, "busy", retry_after="soon"))
    caller.sample(ENERGIES[:5])
    assert clock.slept == [7 + 0.125 * 0.5, 0.5 * 0.75]


def test_pauses_double_up_to_the_longest_and_start_anew_with_progress(caller, service, fake, clock):
    caller.options["patience"] = Patience(limit=1000, first=1, longest=4)
    busy = fake.send(503)
    service.play(busy, busy, busy, busy, fake.first_parts(1, "close"), busy, fake.whole)
    equal(caller.sample(ENERGIES[:16]), fake, energies=ENERGIES[:16])
    assert clock.slept == [0.75 * n for n in (1, 2, 4, 4, 1, 2)]


def test_patience_ends(caller, service, fake, clock):
    caller.options["patience"] = Patience(limit=10, first=1, longest=4)
    service.play(*[fake.problem(503, "the queue is full", code="CR-710")] * 9)
    with pytest.raises(ServiceError, match="HTTP 503 Service Unavailable: the queue is full") as caught:
        caller.sample(ENERGIES)
    assert sum(clock.slept) <= 10
    assert len(service.asked()) == len(clock.slept) + 1 == 5
    assert "/readyz" in caught.value.hint
    assert caught.value.context["next_shower"] == 0


def test_a_longer_wait_than_patience_ends_at_once(caller, service, fake, clock):
    service.play(fake.problem(503, "closed for repair", retry_after="3600"))
    with pytest.raises(ServiceError, match="asked to wait 3600 s"):
        caller.sample(ENERGIES)
    assert clock.slept == []


def test_no_patience_is_one_try(caller, service, fake, clock):
    caller.options["patience"] = Patience(limit=0)
    service.play(fake.hang_up)
    with pytest.raises(ServiceError, match="1 tries"):
        caller.sample(ENERGIES)
    assert clock.slept == []


def test_where_a_stopped_production_goes_on(caller, service, fake):
    caller.options["patience"] = Patience(limit=0)
    service.play(fake.whole, fake.first_parts(1, "close"))
    batches = []
    with pytest.raises(ServiceError) as caught:
        caller.stream(ENERGIES, batches)
    done = caught.value.context["next_shower"]
    assert (done, sum(map(len, batches))) == (24, 24)
    assert "the showers before 24 have come" in caught.value.hint
    caller.stream(ENERGIES[done:], batches, first=done)
    np.testing.assert_array_equal(np.concatenate([b.ids for b in batches]), np.arange(50))


@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize(("count", "extra"), [(0, 0), (0, 9), (1, 0), (1, 40)])
def test_cut_streams_go_on_behind_the_last_whole_batch(caller, service, fake, clock, how, count, extra):
    service.play(fake.first_parts(count, how, extra))
    batches = []
    caller.stream(ENERGIES[:16], batches, seed=1)
    got = type(batches[0]).concatenate(batches)
    equal(got.dense(36), fake, energies=ENERGIES[:16], seed=1)
    # A reset may overtake the bytes before it; polite ends do not.
    again = service.asked()[1]["first"]
    assert again == 8 * count if how != "reset" else again in {0, 8}
    assert service.asked()[1]["energies"] == ENERGIES[again:16].tolist()


@pytest.mark.parametrize("how", ["end", "close"])
def test_where_only_the_end_mark_is_missing_nothing_is_asked_again(caller, service, fake, clock, how):
    service.play(fake.first_parts(2, how))
    equal(caller.sample(ENERGIES[:16]), fake, energies=ENERGIES[:16])
    assert (len(service.asked()), clock.slept) == (1, [])


def test_a_reset_or_a_refused_connection_is_tried_again(caller, service, fake, clock, caplog):
    service.model_scenes.append(fake.hang_up)
    service.play(fake.hang_up)
    with caplog.at_level(logging.WARNING, logger="caloray"):
        equal(caller.sample(ENERGIES[:3]), fake, energies=ENERGIES[:3])
    assert len(clock.slept) == 2
    assert "trying again in 0.2 s" in caplog.text


def test_nobody_there(caller, clock):
    caller.url = "http://127.0.0.1:9"
    with pytest.raises(ServiceError, match=r"127.0.0.1:9/v1/models: cannot connect"):
        caller.models()
    assert 30 < sum(clock.slept) <= 60


def test_slow_replies_are_waited_for(caller, service, fake, clock):
    service.play(fake.drip(150))
    equal(caller.sample(ENERGIES[:16]), fake, energies=ENERGIES[:16])
    assert len(service.asked()) == 1


def test_a_drip_that_never_makes_a_batch_is_not(caller, service, fake, clock):
    clock.tick = 1.0
    caller.options |= {"timeout": 20.0, "patience": Patience(limit=1000)}
    service.play(fake.drip(10))
    batches = []
    caller.stream(ENERGIES[:16], batches)
    assert sum(map(len, batches)) == 16
    assert len(service.asked()) == 2


def test_time_that_the_caller_takes_does_not_count(service, fake, clock):
    from caloray.client import Client

    service.play(fake.whole, fake.send(503), fake.whole)
    with Client(service.url, clock=clock, timeout=5.0, patience=Patience(limit=1)) as client:
        batches = []
        for batch in client.stream(ENERGIES[:40]):
            batches.append(batch)
            clock.time += 100.0
    assert sum(map(len, batches)) == 40
    assert len(service.asked()) == 4


@pytest.mark.parametrize("status", [400, 404, 405, 406, 408, 409, 413, 415, 418, 422, 429, 451])
def test_what_the_server_refuses_is_never_asked_again(caller, service, fake, clock, status):
    service.play(fake.problem(status, "too many", retry_after="1"))
    with pytest.raises(ConfigError, match=f"HTTP {status} .*: too many") as caught:
        caller.sample(ENERGIES)
    assert caught.value.hint == "the server's hint"
    assert (len(service.asked()), clock.slept) == (1, [])


@pytest.mark.parametrize("status", [401, 403])
def test_without_the_right_token(caller, service, fake, clock, status):
    service.model_scenes.append(fake.problem(status, "this service asks for a token", code="CR-610"))
    with pytest.raises(AuthError, match="asks for a token") as caught:
        caller.models()
    assert "CALORAY_SERVE_TOKEN" in caught.value.hint
    assert (len(service.seen), clock.slept) == (1, [])


def test_a_model_that_gives_no_valid_shower(caller, service, fake):
    service.play(fake.problem(422, "no valid shower after 10 redraws", code="CR-400"))
    with pytest.raises(NumericalError, match="no valid shower"):
        caller.sample(ENERGIES)


@pytest.mark.parametrize("status", [301, 307])
def test_redirects_are_not_followed(caller, service, fake, status):
    service.play(fake.send(status, location=service.url + "/elsewhere"))
    with pytest.raises(ConfigError, match=f"HTTP {status}") as caught:
        caller.sample(ENERGIES)
    assert "not followed" in caught.value.hint
    assert len(service.asked()) == 1


def test_other_faults_are_final(caller, service, fake, clock):
    service.play(fake.send(501))
    with pytest.raises(ServiceError, match="HTTP 501 Not Implemented"):
        caller.sample(ENERGIES)
    assert clock.slept == []


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": 1}', b'{"error": {"message": 5}}', b"[" * 9999]
)
def test_refusals_in_no_known_form(caller, service, fake, body):
    service.play(fake.send(413, body))
    with pytest.raises(ConfigError, match=r"HTTP 413 [\w ]+$"):
        caller.sample(ENERGIES)


def test_messages_are_fit_for_a_terminal(caller, service, fake):
    service.play(fake.problem(422, "a\x1b[2J\nb" + "c" * 5000))
    with pytest.raises(ConfigError) as caught:
        caller.sample(ENERGIES)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("kind", ["text/html", "application/json", ""])
def test_another_content_type_is_no_service(caller, service, fake, clock, kind):
    service.play(fake.send(200, b"<html>hello</html>", kind))
    with pytest.raises(ConfigError, match="no stream of showers"):
        caller.sample(ENERGIES)
    assert clock.slept == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"<html>", "text/html"), (b"[{}]", "application/json"), (b"{", "application/json")],
)
def test_models_in_no_known_form(caller, service, fake, body, kind):
    service.model_scenes.append(fake.send(200, body, kind))
    with pytest.raises(ConfigError, match="the answer is no "):
        caller.models()
    assert len(service.seen) == 1


def test_garbage_is_refused_at_once(caller, service, fake, clock):
    service.play(fake.stream([b"GARBAGE!" * 100]))
    with pytest.raises(IntegrityError, match="v1/showers"):
        caller.sample(ENERGIES)
    assert clock.slept == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": 3}, "other ids"),
        ({"seed": 9}, "another seed"),
        ({"energies": [5e3] * 16}, "other incident energies"),
        ({"energies": [1e3] * 3}, "another number of showers"),
        ({"energies": [1e3] * 30}, "another number of showers"),
        ({"energies": []}, "fewer showers"),
        ({"conditions": {"a": 2.0}}, "other conditions"),
        ({"conditions": {}}, "other conditions"),
    ],
)
def test_showers_that_were_not_asked_for(caller, service, fake, changes, message):
    service.play(fake.falsified(**changes))
    with pytest.raises(IntegrityError, match=message):
        caller.sample(ENERGIES, conditions={"a": 1.0})


def test_a_bundle_that_is_exchanged_in_the_middle(caller, service, fake):
    service.play(fake.whole, fake.falsified(bundle="e" * 64))
    batches = []
    with pytest.raises(IntegrityError, match="another bundle") as caught:
        caller.stream(ENERGIES, batches)
    assert caught.value.context["next_shower"] == 16 == sum(map(len, batches))


def test_a_closed_client_says_so(service):
    client = Client(service.url)
    client.close()
    for use in (client.models, client.choose, lambda: client.sample([2e3]), lambda: client.stream([2e3])):
        with pytest.raises(ConfigError, match="client was closed"):
            use()


def test_a_closed_asynchronous_client_says_so(service):
    async def use():
        client = AsyncClient(service.url)
        await client.close()
        with pytest.raises(ConfigError, match="client was closed"):
            await client.models()
        with pytest.raises(ConfigError, match="client was closed"):
            client.stream([2e3])

    anyio.run(use)


def test_a_misspelt_word_is_refused_before_anything_is_asked(caller, service):
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        caller.sample(ENERGIES, sed=5)
    assert service.seen == []


def test_a_service_that_was_started_again_with_other_limits(service, fake):
    """The models are asked for anew when what was known of them no longer holds."""
    with Client(service.url, token="0123456789abcdef") as client:
        client.sample(ENERGIES[:4])
        service.models = [fake.facts(max_showers=8)]
        service.play(fake.problem(422, "energies must have at most 8 entries"))
        equal(client.sample(ENERGIES[:16]), fake, energies=ENERGIES[:16])
        assert [len(body["energies"]) for body in service.asked()] == [4, 16, 8, 8]
        service.play(fake.problem(422, "no"))
        with pytest.raises(ConfigError, match=r"HTTP 422 .*: no"):
            client.sample(ENERGIES[:4])
        assert len(service.asked()) == 5


def test_no_patience_for_a_port_without_tls(caller, service, clock):
    caller.url = service.url.replace("http:", "https:")
    with pytest.raises(ConfigError, match="cannot connect") as caught:
        caller.models()
    assert "http or https?" in caught.value.hint
    assert clock.slept == []


def test_no_patience_for_a_bad_certificate():
    failure = httpx2.ConnectError("certificate verify failed")
    failure.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    assert "certificate" in lost(failure).final
    assert not lost(httpx2.ConnectError("Connection refused")).final


def test_nothing_is_served(caller, service):
    service.models = []
    with pytest.raises(ConfigError, match="no models are served") as caught:
        caller.sample(ENERGIES)
    assert "none" not in caught.value.hint
