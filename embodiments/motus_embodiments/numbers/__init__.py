"""Native and canonical numbers: order, unit, sign, orientation, and what wrong ones look like."""
