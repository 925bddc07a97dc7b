import pytest

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
