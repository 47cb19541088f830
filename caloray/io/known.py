"""The public CaloChallenge files: where they are and how to recognise them.

Zenodo records 8099322 (dataset 1), 6366271 (dataset 2) and 6366324 (dataset 3). The older records of dataset
1 hold another pion production and are not listed.
"""

from __future__ import annotations

__all__ = ["KNOWN", "ZENODO", "KnownFile", "by_name", "datasets", "files_of", "identify"]

from dataclasses import dataclass

from caloray.errors import ConfigError

ZENODO = "https://zenodo.org/records"


@dataclass(frozen=True)
class KnownFile:
    """One published file.

    Args:
        name: File name.
        dataset: What ``caloray data pull`` calls it; also the name of its geometry.
        record: Zenodo record number.
        md5: Hexadecimal md5 of the content.
        size: Bytes, where published.
    """

    name: str
    dataset: str
    record: int
    md5: str
    size: int | None = None

    def url(self, base_url: str = ZENODO) -> str:
        """Where to get it, below ``base_url`` (Zenodo or a mirror with the same paths)."""
        return f"{base_url.rstrip('/')}/{self.record}/files/{self.name}?download=1"


KNOWN = (
    KnownFile(
        "dataset_1_photons_1.hdf5", "ds1_photons", 8099322, "005d2adeda7db034b388112661265656", 173_797_023
    ),
    KnownFile("dataset_1_photons_2.hdf5", "ds1_photons", 8099322, "4767715ed56e99565fd9c67340661e70"),
    KnownFile("dataset_1_pions_1.hdf5", "ds1_pions", 8099322, "6a5f52722064a1bcd8a0bc002f16515d"),
    KnownFile("dataset_1_pions_2.hdf5", "ds1_pions", 8099322, "fee7457b40127bc23c8ab909e2638ca0"),
    KnownFile("dataset_2_1.hdf5", "ds2", 6366271, "e590333e9a2da51b258288d74bd8357a", 1_356_475_617),
    KnownFile("dataset_2_2.hdf5", "ds2", 6366271, "7a56fd68aa53ded37c2ac445694d9736", 1_366_708_391),
    KnownFile("dataset_3_1.hdf5", "ds3", 6366324, "d33f03418aa311b0965452fcbef1ff87"),
    KnownFile("dataset_3_2.hdf5", "ds3", 6366324, "911dec2c40aafa64a07b7450b80881bf"),
    KnownFile("dataset_3_3.hdf5", "ds3", 6366324, "5ea62f6831a1821bb5035fafc9f030e8"),
    KnownFile("dataset_3_4.hdf5", "ds3", 6366324, "5e8d82e6a6c28c6914a3b602a1cfa299"),
)


def identify(md5: str) -> KnownFile | None:
    """The published file with this md5, whatever its name is on this disk."""
    return next((known for known in KNOWN if known.md5 == md5.lower()), None)


def by_name(name: str) -> KnownFile | None:
    """The published file of this name, whatever its content is on this disk."""
    return next((known for known in KNOWN if known.name == name), None)


def datasets() -> list[str]:
    """Names of the data sets that can be downloaded."""
    return list(dict.fromkeys(known.dataset for known in KNOWN))


def files_of(dataset: str) -> list[KnownFile]:
    """The files of one data set.

    Raises:
        ConfigError: No such data set.
    """
    found = [known for known in KNOWN if known.dataset == dataset]
    if not found:
        raise ConfigError(f"unknown data set {dataset!r}", hint=f"known: {', '.join(datasets())}")
    return found
