"""Reddit and X as samples: pure functions."""

import re
from collections.abc import Mapping
from typing import Any

from scizor_resources.samples.wire import Answer, Asked, instant, load, shown

_CASHTAG = re.compile(r"\$([A-Za-z]{1,6}(?:[._][A-Za-z]{1,2})?)\b")
_LISTING = re.compile(r"/r/(\w+)/new")
_TOKEN_SECONDS = 86_400


def reddit_www(asked: Asked) -> Answer:
    """Answer for www.reddit.com: a token for everybody."""
    if asked.path != "/api/v1/access_token":
        return Answer({"message": "Not Found", "error": 404}, 404)
    token = {"access_token": "sample", "token_type": "bearer", "scope": "*"}
    return Answer({**token, "expires_in": _TOKEN_SECONDS})


def reddit(asked: Asked) -> Answer:
    """Answer for oauth.reddit.com: a subreddit's posts, newest first."""
    match = _LISTING.fullmatch(asked.path)
    if match is None:
        return Answer({"message": "Not Found", "error": 404}, 404)
    place = match[1].lower()
    posts = [post for post in shown(load("reddit"), asked.at) if post["place"].lower() == place]
    names = [f"t3_{post['id']}" for post in posts]
    after = asked.get("after")
    begin = names.index(after) + 1 if after in names else 0
    end = begin + int(asked.get("limit", "25"))
    return Answer(
        {
            "kind": "Listing",
            "data": {
                "after": names[end - 1] if end < len(names) else None,
                "children": [
                    {"kind": "t3", "data": _post(post, asked)} for post in posts[begin:end]
                ],
            },
        }
    )


def _post(post: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    place, number = post["place"], post["id"]
    edited = instant(post["edited"]) if "edited" in post else None
    made = {
        "id": number,
        "name": f"t3_{number}",
        "subreddit": place,
        "title": post["title"],
        "selftext": post.get("text", ""),
        "author": post["author"],
        "created_utc": instant(post["at"]).timestamp(),
        "edited": edited.timestamp() if edited is not None and edited <= asked.at else False,
        "score": post["score"],
        "upvote_ratio": post["ratio"],
        "num_comments": post["comments"],
        "permalink": f"/r/{place}/comments/{number}/sample/",
        "url": f"https://www.reddit.com/r/{place}/comments/{number}/sample/",
        "stickied": False,
        "over_18": False,
        "removed_by_category": None,
    }
    if post.get("deleted"):
        made |= {
            "author": None,
            "title": "[deleted by user]",
            "selftext": "[removed]",
            "removed_by_category": "deleted",
        }
    return made


def x(asked: Asked) -> Answer:
    """Answer for api.x.com: posts of a window with one of the cashtags, newest first."""
    if asked.path != "/2/tweets/search/recent":
        return Answer({"title": "Not Found", "status": 404, "detail": "Not Found"}, 404)
    start, end = instant(asked.get("start_time")), instant(asked.get("end_time"))
    wanted = _cashtags(asked.get("query"))
    found = [
        post
        for post in shown(load("x"), asked.at)
        if start <= instant(post["at"]) < end and wanted & _cashtags(post["text"])
    ]
    begin, size = int(asked.get("next_token", "0")), int(asked.get("max_results", "10"))
    page = found[begin : begin + size]
    meta: dict[str, Any] = {"result_count": len(page)}
    if begin + size < len(found):
        meta["next_token"] = str(begin + size)
    if not page:
        return Answer({"meta": meta})
    meta |= {"newest_id": page[0]["id"], "oldest_id": page[-1]["id"]}
    users = [{"id": f"9{post['id']}", "username": post["author"]} for post in page]
    return Answer(
        {"data": [_tweet(post) for post in page], "includes": {"users": users}, "meta": meta}
    )


def _cashtags(text: str) -> set[str]:
    return {tag.upper() for tag in _CASHTAG.findall(text)}


def _tweet(post: Mapping[str, Any]) -> dict[str, Any]:
    text = post["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {
        "id": post["id"],
        "text": text,
        "edit_history_tweet_ids": [post["id"]],
        "created_at": post["at"],
        "author_id": f"9{post['id']}",
        "lang": "en",
        "public_metrics": post["metrics"],
        "entities": {
            "cashtags": [
                {"start": each.start(), "end": each.end(), "tag": each[1]}
                for each in _CASHTAG.finditer(text)
            ]
        },
    }
