"""What a codec's 14 numbers carry, measured on episodes it never trained on."""
