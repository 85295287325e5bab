"""The values everything else is made of. Pure data: nothing here opens, starts or waits for anything."""
