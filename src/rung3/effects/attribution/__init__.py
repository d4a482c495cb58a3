"""Attribution of an outlier or of a change to the mechanisms behind it."""
