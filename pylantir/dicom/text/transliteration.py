"""Readable Latin letters for those that a scanner's character set does not have.

Lives in the server process. A letter comes in, what stands for it goes out; `symbols` writes what is none. Accents fall
off; Greek, Cyrillic, kana, Hangul, Hebrew and Arabic letters are romanised one by one. Chinese characters have no
reading of their own: None.

Source: ISO 843 (Greek), ISO 9 without its accents (Cyrillic), Hepburn (kana), Revised Romanization (Hangul).
"""

# ruff: noqa: RUF001 - letters that look like others are the point
from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType


def _table(*rows: str) -> Mapping[str, str]:
    """Read rows of pairs, a letter and its romanisation, and add the capital letters."""
    pairs = [pair.split("=") for row in rows for pair in row.split()]
    small = {letter: latin.replace("_", "") for letter, latin in pairs}
    capitals = {letter.upper(): latin.capitalize() for letter, latin in small.items() if len(letter.upper()) == 1}
    return MappingProxyType({**capitals, **small})


_LETTERS = _table(
    "ß=ss æ=ae œ=oe ø=o đ=d ð=d þ=th ł=l ħ=h ı=i ĸ=k ŋ=ng ŧ=t ſ=s ə=e ƒ=f",
    "α=a β=v γ=g δ=d ε=e ζ=z η=i θ=th ι=i κ=k λ=l μ=m ν=n ξ=x ο=o π=p ρ=r σ=s ς=s τ=t υ=y φ=f χ=ch ψ=ps ω=o",
    "а=a б=b в=v г=g д=d е=e ж=zh з=z и=i й=j к=k л=l м=m н=n о=o п=p р=r с=s т=t у=u ф=f х=h ц=c ч=ch ш=sh",
    "щ=shch ъ=_ ы=y ь=_ э=e ю=yu я=ya ё=yo ѓ=g ґ=g ђ=dj є=ye і=i ї=yi ј=j љ=lj њ=nj ћ=c ќ=k ў=u џ=dz ѕ=dz ѣ=e",
    "א=_ ב=b ג=g ד=d ה=h ו=v ז=z ח=h ט=t י=y ך=k כ=k ל=l ם=m מ=m ן=n נ=n ס=s ע=_ ף=p פ=p ץ=ts צ=ts ק=k ר=r ש=sh ת=t",
    "ء=_ ا=a آ=a أ=a إ=i ؤ=u ئ=i ب=b ت=t ث=th ج=j ح=h خ=kh د=d ذ=dh ر=r ز=z س=s ش=sh ص=s ض=d ط=t ظ=z ع=a غ=gh",
    "ف=f ق=q ك=k ل=l م=m ن=n ه=h ة=a و=w ى=a ي=y پ=p چ=ch ژ=zh ک=k گ=g ی=y",
    "ぁ=a あ=a ぃ=i い=i ぅ=u う=u ぇ=e え=e ぉ=o お=o か=ka き=ki く=ku け=ke こ=ko さ=sa し=shi す=su せ=se そ=so",
    "た=ta ち=chi つ=tsu て=te と=to な=na に=ni ぬ=nu ね=ne の=no は=ha ひ=hi ふ=fu へ=he ほ=ho ま=ma み=mi む=mu",
    "め=me も=mo や=ya ゆ=yu よ=yo ら=ra り=ri る=ru れ=re ろ=ro わ=wa ゐ=i ゑ=e を=o ん=n ゔ=vu が=ga ぎ=gi ぐ=gu",
    "げ=ge ご=go ざ=za じ=ji ず=zu ぜ=ze ぞ=zo だ=da ぢ=ji づ=zu で=de ど=do ば=ba び=bi ぶ=bu べ=be ぼ=bo ぱ=pa",
    "ぴ=pi ぷ=pu ぺ=pe ぽ=po",
    "ʼ=' ʻ='",
)
_SMALL_Y = MappingProxyType({"ゃ": "a", "ゅ": "u", "ょ": "o"})
_INITIALS = ("g", "kk", "n", "d", "tt", "r", "m", "b", "pp", "s", "ss", "", "j", "jj", "ch", "k", "t", "p", "h")
_VOWELS = tuple("a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i".split())  # noqa: SIM905
_FINALS = ("", *"k k k n n n t l k m l l l p l m p p t t ng t t k t p t".split())  # noqa: SIM905
_HALF_WIDTH_KANA = re.compile("[｡-ﾟ]+")
_FIRST_SYLLABLE, _SYLLABLES = 0xAC00, 11172


def romanised(character: str) -> str | None:
    """What stands for one letter, perhaps nothing (a soft sign); None if it has no reading."""
    if character in _LETTERS:
        return _LETTERS[character]
    number = ord(character) - _FIRST_SYLLABLE
    if 0 <= number < _SYLLABLES:
        initial, rest = divmod(number, len(_VOWELS) * len(_FINALS))
        vowel, final = divmod(rest, len(_FINALS))
        return _INITIALS[initial] + _VOWELS[vowel] + _FINALS[final]
    parts = unicodedata.normalize("NFKD", character)
    if unicodedata.combining(character):
        return ""
    if parts == character:
        return None
    romans = [part if part.isascii() else romanised(part) for part in parts]
    return None if None in romans else "".join(roman or "" for roman in romans)


def kana_as_romaji(text: str) -> str:
    """Romanise what depends on neighbours: small kana, doubled consonants and long vowels. The rest stays."""
    full_width = _HALF_WIDTH_KANA.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    kana = "".join(map(_as_hiragana, full_width))
    if not any("ぁ" <= character <= "ゖ" for character in kana):
        return text
    result = ""
    doubled = False
    for character in kana:
        roman = _LETTERS.get(character, character) if "ぁ" <= character <= "ゖ" else character
        if character == "っ":
            doubled = True
        elif character == "ー":
            result += result[-1:] if result[-1:] in "aeiou" else ""
        elif character in _SMALL_Y and result.endswith("i"):
            joint = "" if result.endswith(("shi", "chi", "ji")) else "y"
            result = result[:-1] + joint + _SMALL_Y[character]
        else:
            result += ("t" if roman.startswith("ch") else roman[:1]) * doubled + roman
            doubled = False
    return result


def _as_hiragana(character: str) -> str:
    return chr(ord(character) - 0x60) if "ァ" <= character <= "ヶ" else character
