"""CoinSpot's help centre as samples: pure functions."""

from scizor_resources.samples.wire import Answer, Asked, load, shown

_CENTER = "https://coinspot.zendesk.com"


def coinspot(asked: Asked) -> Answer:
    """Answer for coinspot.zendesk.com: the announcements as JSON, newest first."""
    is_list = asked.path.startswith("/api/v2/help_center/") and asked.path.endswith(
        "/articles.json"
    )
    if not is_list:
        return Answer({"error": "RecordNotFound", "description": "Not found"}, 404)
    found = shown(load("coinspot_announcements"), asked.at)
    number, size = int(asked.get("page", "1")), int(asked.get("per_page", "30"))
    pages = max(1, -(-len(found) // size))
    return Answer(
        {
            "count": len(found),
            "page": number,
            "page_count": pages,
            "per_page": size,
            "next_page": f"{_CENTER}{asked.path}?page={number + 1}" if number < pages else None,
            "articles": [
                {
                    "id": each["id"],
                    "html_url": f"{_CENTER}/hc/en-us/articles/{each['id']}-sample",
                    "title": each["title"],
                    "body": f"<p>{each['text']}</p>",
                    "created_at": each["at"],
                    "updated_at": each["at"],
                    "edited_at": each["at"],
                    "draft": False,
                    "section_id": 115000000001,
                    "label_names": [],
                    "locale": "en-us",
                }
                for each in found[(number - 1) * size : number * size]
            ],
        }
    )
