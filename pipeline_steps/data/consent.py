"""What people write where they are asked for consent: a clear yes, a clear no, or neither."""

import re
import unicodedata
from typing import Any

from pipeline_steps.inputs.text import clean_text


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", clean_text(text)).casefold()


def _words(text: str) -> frozenset[str]:
    return frozenset(_plain(word) for word in text.replace("\n", "|").split("|")) - {""}


YES = _words(
    """
    yes | y | true | 1 | ok | okay | ✓ | ✔ | ☑ | ✅
    given | granted | obtained | signed | agreed | i agree | accepted | approved | consented
    consent given | consent granted | consent obtained | given consent | written consent | oral consent
    in writing | given in writing | yes, in writing | given orally
    ja | erteilt | gegeben | zugestimmt | einverstanden | eingewilligt | einwilligung erteilt
    oui | donné | accordé | accepté | d'accord | sí | si | dado | otorgado | aceptado | concedido
    sim | concedido | autorizado | aceito | sì | dato | accordato | da | tak | ano | evet | igen | kyllä
    да | так | ναι | نعم | موافق | כן | بله | हाँ | हां | जी हाँ | হ্যাঁ | ہاں
    네 | 예 | 동의 | 동의함 | 동의합니다 | はい | 同意 | 同意する | 同意します | 同意済み | 是 | 已同意
    我同意 |     có | đồng ý | ใช่ | ยินยอม | ya | setuju | ndiyo | bẹẹni | አዎ | ydw | cytuno | oo | opo
    not needed | not required
    """
)
"""A clear yes, or a clear word that none is needed; docs/data.md lists the same."""
NO = _words(
    """
    no | n | none | false | 0 | ✗ | ✘ | ❌
    refused | withdrawn | revoked | denied | declined | rejected | no consent | not given | not granted
    nein | abgelehnt | verweigert | widerrufen | non | refusé | não | rechazado | retirado | nie | nej | nee
    hayır | нет | ні | όχι | لا | לא | نه | नहीं | না | نہیں
    아니요 | 아니오 | 거부 | いいえ | 拒否 | 否 | 不 | 不同意 | 拒绝 | không | ไม่ | tidak | hapana
    """
)
"""A clear no."""
_DATE = re.compile(r"[\s,;:(]*(\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4})\)?$")


def is_yes(value: Any) -> bool | None:
    """Return what an answer says, whatever its case, its final mark and a date after it.

    Args:
        value: as the row has it.

    Returns:
        True, False, or None where it is neither a clear yes nor a clear no.
    """
    text = _DATE.sub("", _plain(str(value))).strip(" .!,;\"'")
    if text.startswith(("not needed:", "not required:")):
        return True
    return True if text in YES else False if text in NO else None
