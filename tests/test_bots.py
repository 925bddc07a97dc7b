import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from statsvc.bots import LONGEST_USER_AGENT, is_bot
from tests.process import CHROME


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; coccocbot-web/1.0; +http://help.coccoc.com/searchengine)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0 Safari/537.36",
        "curl/8.5.0",
        "python-requests/2.32",
    ],
)
def test_crawlers_libraries_and_headless_browsers_are_bots(user_agent):
    """What says that it is no person's browser is believed."""
    assert is_bot(user_agent)


@pytest.mark.parametrize(
    "user_agent",
    [
        CHROME,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        " Version/18.1 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) coc_coc_browser/128.0"
        " Chrome/122.0 Safari/537.36",
    ],
)
def test_peoples_browsers_are_not(user_agent):
    """Browsers of people, Vietnam's Cốc Cốc among them, are no bots."""
    assert not is_bot(user_agent)


def test_only_the_beginning_of_a_long_one_is_looked_at():
    """A header of any length costs the time of a short one."""
    assert not is_bot(CHROME + " " * LONGEST_USER_AGENT + "curl/8")


def test_every_bot_of_the_list_is_known():
    """RE2 reads the list's patterns as Python does: each is found in its own examples."""
    examples = [example for bot in CRAWLER_USER_AGENTS_DATA for example in bot["instances"]]
    assert len(examples) > 1000
    assert [text for text in examples if not is_bot(text) and len(text) < LONGEST_USER_AGENT] == []


@given(st.text(st.characters(exclude_categories=()), max_size=600))
def test_any_user_agent_is_judged(user_agent):
    """Surrogates, NUL and what else a header may hold raise nothing."""
    assert is_bot(user_agent) in {True, False}
