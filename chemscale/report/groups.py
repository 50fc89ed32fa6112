"""The groups that a page has a section for; they are sorted where every reader of a store can reach them."""

from chemscale.audit.groups import DATA, MEASURES, Group, Measure, Row, groups_of, name_of

__all__ = ["DATA", "MEASURES", "Group", "Measure", "Row", "groups_of", "name_of"]
