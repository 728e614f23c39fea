"""CryptoPanic and NewsCatcher as samples: pure functions."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from scizor_resources.samples.wire import Answer, Asked, instant, load, shown

_PAGE_SIZE = 20
_PHRASE = re.compile(r'"([^"]+)"')


def cryptopanic(asked: Asked) -> Answer:
    """Answer for cryptopanic.com: posts about some coins, newest first."""
    if asked.path != "/posts/":
        return Answer({"status": "api_error", "info": "Not found"}, 404)
    wanted = {code for code in asked.get("currencies").upper().split(",") if code}
    found = [
        post
        for post in shown(load("cryptopanic"), asked.at)
        if not wanted or wanted & set(post["coins"])
    ]
    number = int(asked.get("page", "1"))
    last = max(1, -(-len(found) // _PAGE_SIZE))
    page = f"https://cryptopanic.com/api/developer/v2/posts/?page={number + 1}"
    return Answer(
        {
            "next": page if number < last else None,
            "previous": None,
            "results": [
                _post(each) for each in found[(number - 1) * _PAGE_SIZE : number * _PAGE_SIZE]
            ],
        }
    )


def _post(post: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": post["id"],
        "title": post["title"],
        "description": post.get("description", ""),
        "published_at": post["at"],
        "created_at": post["at"],
        "kind": "news",
        "source": {"title": post["domain"], "region": "en", "domain": post["domain"]},
        "original_url": post["url"],
        "url": f"https://cryptopanic.com/news/{post['id']}",
        "author": post.get("author"),
        "instruments": [{"code": code, "title": code} for code in post["coins"]],
        "votes": {"saved": 0, "lol": 0, "toxic": 0, **post["votes"]},
    }


def newscatcher(asked: Asked) -> Answer:
    """Answer for v3-api.newscatcherapi.com: articles of some days that have one of the phrases."""
    if asked.path != "/api/search":
        return Answer({"message": "Not Found", "status_code": 404, "status": "Not Found"}, 404)
    wanted = asked.json
    start, end = (
        datetime.fromisoformat(wanted[name]).replace(tzinfo=UTC) for name in ("from_", "to_")
    )
    phrases = [_words(phrase) for phrase in _PHRASE.findall(wanted["q"])]
    found = [
        article
        for article in shown(load("newscatcher"), asked.at)
        if start <= instant(article["at"]) <= end and _names_one(article, phrases)
    ]
    number, size = int(wanted.get("page", 1)), int(wanted.get("page_size", 100))
    return Answer(
        {
            "status": "ok" if found else "No matches for your search.",
            "total_hits": len(found),
            "page": number,
            "total_pages": -(-len(found) // size),
            "page_size": size,
            "articles": [_article(each) for each in found[(number - 1) * size : number * size]],
            "user_input": wanted,
        }
    )


def _words(text: str) -> str:
    """Return the words of a text, each between blanks."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def _names_one(article: Mapping[str, Any], phrases: list[str]) -> bool:
    words = _words(f"{article['title']} {article['content']}")
    return any(phrase in words for phrase in phrases)


def _article(article: Mapping[str, Any]) -> dict[str, Any]:
    at = f"{instant(article['at']):%Y-%m-%d %H:%M:%S}"
    author, domain = article.get("author"), article["domain"]
    # Of some only the day is known; those stand at its midnight.
    is_exact = article.get("precision", "full") == "full"
    return {
        "id": article["id"],
        "title": article["title"],
        "author": author,
        "authors": [author] if author else [],
        "journalists": [],
        "published_date": at if is_exact else f"{at[:10]} 00:00:00",
        "published_date_precision": article.get("precision", "full"),
        "updated_date": None,
        "parse_date": at,
        "link": article["url"],
        "domain_url": domain,
        "full_domain_url": f"www.{domain}",
        "name_source": domain,
        "language": "en",
        "description": article["content"].partition(". ")[0],
        "content": f"By {author} {article['content']}" if author else article["content"],
        "rank": 1000,
        "nlp": {"theme": "Business, Finance", "sentiment": article["sentiment"]},
        "score": 10.0,
    }
