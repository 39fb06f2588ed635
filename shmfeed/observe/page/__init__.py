"""The page of `shmfeed dashboard`: a server of one HTML document and its data.

One sampler reads the feeds, whatever the number of open pages. It reads only while a
page is open or a request asks. The feeder does nothing for it.
"""
